//! Files with sequences of tensors.

use super::*;

/// A network whose channels are split, exchanged and joined.
fn with_sequences() -> GraphProto {
    let along = |axis: i64| vec![attribute("axis", &[axis])];
    GraphProto {
        name: Some("sequences".into()),
        node: vec![
            node("Conv", &["x", "w"], "c", vec![]),
            node("SplitToSequence", &["c", "lengths"], "parts", along(1)),
            node("SequenceAt", &["parts", "zero"], "first", vec![]),
            node("SequenceAt", &["parts", "last"], "second", vec![]),
            node("SequenceConstruct", &["second", "first"], "swapped", vec![]),
            node("SequenceInsert", &["swapped", "first", "zero"], "three", vec![]),
            node("SequenceErase", &["three", "last"], "two", vec![]),
            node("SequenceInsert", &["two", "first"], "again", vec![]),
            node("ConcatFromSequence", &["again"], "joined", along(1)),
            node(
                "SplitToSequence",
                &["joined"],
                "rows",
                [along(2), vec![attribute("keepdims", &[0])]].concat(),
            ),
            node(
                "ConcatFromSequence",
                &["rows"],
                "back",
                [along(-1), vec![attribute("new_axis", &[1])]].concat(),
            ),
            node("SequenceLength", &["rows"], "count", vec![]),
            node("Cast", &["count"], "number", vec![attribute("to", &[1])]),
            node("Div", &["back", "number"], "y", vec![]),
            node("SplitToSequence", &["y", "three_each"], "groups", along(1)),
            node("SequenceAt", &["groups", "last"], "rest", vec![]),
            node("SequenceAt", &["groups", "zero"], "most", vec![]),
            node("SequenceEmpty", &[], "none", vec![]),
            node("SequenceInsert", &["none", "rest"], "one", vec![]),
            node("SequenceInsert", &["one", "most"], "both", vec![]),
            node("ConcatFromSequence", &["both"], "whole", along(1)),
            node("GlobalAveragePool", &["whole"], "pooled", vec![]),
            node("Flatten", &["pooled"], "logits", vec![]),
        ],
        initializer: vec![
            floats("w", &[4, 3, 1, 1]),
            integers("lengths", &[1, 3]),
            TensorProto { dims: vec![], ..integers("zero", &[0]) },
            TensorProto { dims: vec![], ..integers("last", &[-1]) },
            TensorProto { dims: vec![], ..integers("three_each", &[3]) },
        ],
        input: vec![port("x", DataType::Float, &[0, 3, PX as i64, PX as i64])],
        output: vec![port("logits", DataType::Float, &[0, 5])],
        ..Default::default()
    }
}

#[test]
fn sequences_of_tensors_are_followed_to_their_items() {
    let bytes = model(with_sequences());
    let whole = testing::run(&mut testing::session(&bytes), &[images()]).remove("logits").unwrap();
    let (names, logits) = imported(file(&bytes).path()).unwrap();
    assert_eq!(names, ["w"]);
    assert_eq!(logits.len(), 5 * ROWS);
    for (a, b) in logits.iter().zip(&whole) {
        assert!((a - b).abs() < 1e-6, "{a} against {b}");
    }
}

#[test]
fn sequences_that_do_not_fit_are_refused() {
    let refusal = |change: fn(&mut GraphProto)| {
        let mut graph = with_sequences();
        change(&mut graph);
        imported(file(&model(graph)).path()).unwrap_err().to_string()
    };
    for (change, part) in [
        (
            (|graph| graph.initializer[1] = integers("lengths", &[1, 4])) as fn(&mut GraphProto),
            "[1, 4] along",
        ),
        (|graph| graph.initializer[4].int64_data = vec![0], "has parts of nothing"),
        (|graph| graph.initializer[2].int64_data = vec![2], "takes item 2 of 2"),
        (|graph| graph.node[2].input[0] = "c".into(), "takes `c`, a tensor, expected a sequence"),
        (|graph| graph.node[13].input[0] = "rows".into(), "takes `rows`, a sequence, expected a tensor"),
        (|graph| graph.node[20].input[0] = "none".into(), "joins a sequence of nothing"),
        (|graph| graph.node[6].input[0] = "none".into(), "`two_node`"),
        (|graph| graph.node[8].attribute[0].i = Some(7), "names axis 7 of 4"),
        (|graph| graph.node[1].attribute[0].i = Some(7), "has no axis 7"),
    ] {
        let error = refusal(change);
        assert!(error.contains(part), "{part}: {error}");
    }
}
