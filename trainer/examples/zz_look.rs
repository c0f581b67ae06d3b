//! temp
use fovea_trainer::figure::*;
use std::fs;
fn put(name: &str, svg: &str) {
    fs::create_dir_all("/tmp/figs").unwrap();
    fs::write(format!("/tmp/figs/{name}.svg"), svg).unwrap();
    fs::write(format!("/tmp/figs/{name}.png"), png(svg).unwrap()).unwrap();
}
fn main() {
    let curve = |a: f64, b: f64| (1..=90).map(|e| (e as f64, a + b * (-e as f64 / 15.0).exp() + 0.01 * ((e * 7 % 5) as f64))).collect::<Vec<_>>();
    let mut one = Series::new("relu, mean of 3 seeds", curve(0.2, 0.7));
    one.band = one.points.iter().map(|&(x, y)| (x, y - 0.03, y + 0.04)).collect();
    let mut two = Series::new("tanh, 3 seeds", curve(0.4, 0.5));
    two.around = (0..3).map(|k| two.points.iter().map(|&(x, y)| (x, y + 0.02 * (k as f64 - 1.0))).collect()).collect();
    put("lines", &LineChart {
        title: "Error over 90 epochs".into(), series: vec![one, two],
        marks: vec![Mark { at: 30.0, label: "rate 0.001".into() }, Mark { at: 50.0, label: "rate 0.0001".into() }, Mark { at: 55.0, label: "rate 10⁻⁵".into() }],
        levels: vec![Level { at: 0.182, label: "the paper's five networks: 18.2 %".into() }],
        ..LineChart::new(Axis::whole("epoch"), Axis::percent("top-5 error").from_zero()) }.svg());
    put("log", &LineChart { title: "Loss".into(), series: vec![Series::new("training", (1..400).map(|s| (s as f64 * 1000.0, 7.0 / (s as f64).sqrt())).collect())],
        ..LineChart::new(Axis::linear("updates"), Axis::log("loss, nats")) }.svg());
    put("few", &LineChart { title: "Three epochs".into(), series: vec![Series::new("training", vec![(1.0, 1.42), (2.0, 0.9), (3.0, 0.7)]), Series { dashed: true, ..Series::new("validation", vec![(1.0, 1.2), (2.0, 0.8), (3.0, 0.75)]) }],
        ..LineChart::new(Axis::whole("epoch"), Axis::linear("loss, nats")) }.svg());
    let bar = |l: &str, v: f64| Bar { label: l.into(), value: v, note: format!("{v:.1e}"), color: Color::Series(0) };
    put("bars", &BarChart { title: "Update per weight".into(), axis: Axis::log("ratio of norms"), bars: vec![bar("conv1.weight", 0.0012), bar("conv2.weight", 0.0005), bar("fc6.weight", 0.01)], levels: vec![Level{at: 1e-3, label: "about 10⁻³".into()}] }.svg());
    let names: Vec<String> = ["tabby cat", "Egyptian cat", "Persian cat", "golden retriever", "Labrador"].map(String::from).to_vec();
    put("heat", &HeatMap { title: "Confusion".into(), rows_title: "what it is".into(), columns_title: "what the network says".into(), rows: names.clone(), columns: names.clone(),
        values: (0..5).map(|r| (0..5).map(|c| if r == c { 30.0 } else { ((r * 3 + c * 5) % 7 * 2) as f64 }).collect()).collect(), right: (0..5).map(|i| (i, i)).collect() }.svg());
    let pic = |k: u32| Picture::from_rgb(32, 32, (0..32 * 32 * 3).map(|i: u32| (i * k % 251) as u8).collect());
    let cell = |k: u32| Cell { lines: vec![("golden retriever".into(), Color::Ink)], bars: [("golden retriever", 0.6), ("Labrador retriever", 0.2), ("kuvasz", 0.1)].iter().map(|(l, v)| Bar { label: (*l).into(), value: *v, note: format!("{:.0} %", v * 100.0), color: if k == 1 { Color::Right } else { Color::Series(0) } }).collect(), frame: (k == 2).then_some(Color::Wrong), ..Cell::new(pic(k)) };
    put("pictures", &Pictures { title: "Predictions".into(), side_px: 128.0, gap_px: 12.0, rows: vec![Row { caption: "a row".into(), cells: (1..5).map(cell).collect() }, Row { cells: (5..9).map(cell).collect(), ..Row::default() }] }.svg());
}
