"""Measures how well orders that do not need all shards at once shuffle, beside those of other loaders.

    python shuffle_quality.py [--images 1281167] [--shard 1365] [--page 42] [--epochs 4]

Needs numpy. Orders: of all images; Fovea's `Windowed`; `py1e` of Streaming (mosaicml/streaming, streaming/base/shuffle),
one node, blocks of 2^18; `QUASI_RANDOM` of FFCV (libffcv/ffcv, ffcv/traversal_order), pages of 8 MiB. The defaults are
ImageNet in raw shards of 256 MiB. Each is made here from its description, since neither package is needed for that.

Columns: the share of the images that must be at hand; |rank correlation| of position and stored position; different
classes in a batch of 128 if the images are stored by class, of 1000 classes; and, where 1 is a shuffle of all images,
how often two images of one shard are in a batch, and how often two images of a batch are in one batch again in the next
epoch.
"""

import argparse

import numpy as np

BATCH = 128
CLASSES = 1000


def cut(count, shard):
    """Where shards of `shard` images begin, and the end."""
    return np.append(np.arange(0, count, shard), count)


def windowed(window):
    def order(rng, starts):
        shards = rng.permutation(len(starts) - 1)
        windows = -(-len(shards) // window)
        bounds = np.arange(windows + 1) * len(shards) // windows
        of = lambda these: np.concatenate([np.arange(starts[s], starts[s + 1]) for s in these])
        return np.concatenate([rng.permutation(of(shards[a:b])) for a, b in zip(bounds, bounds[1:])])

    return order


def streaming(block):
    """Shards in random order, each spread evenly over about a block around its place."""

    def order(rng, starts):
        shards = rng.permutation(len(starts) - 1)
        total, offset = starts[-1], 0
        images, places = [], []
        for shard in shards:
            size = starts[shard + 1] - starts[shard]
            room = max((rng.integers(int(0.75 * block), int(1.25 * block)) - size) / 2, 0)
            low, high = max(-room, -offset), min(room, total - offset - size)
            images.append(starts[shard] + rng.permutation(size))
            places.append(offset + np.arange(size) + rng.uniform(low, high, size))
            offset += size
        return np.concatenate(images)[np.argsort(np.concatenate(places))]

    return order


def quasi_random(page):
    """The next image of one of 2·BATCH pages, which are taken in random order and permuted within."""

    def order(rng, starts):
        pages = cut(starts[-1], page)
        waiting = list(rng.permutation(len(pages) - 1))
        result, current = np.empty(starts[-1], np.int64), []
        for at in range(len(result)):
            while waiting and len(current) < 2 * BATCH:
                next_page = waiting.pop()
                current.append(list(pages[next_page] + rng.permutation(pages[next_page + 1] - pages[next_page])))
            chosen = int(rng.random() * len(current))
            result[at] = current[chosen].pop()
            if not current[chosen]:
                current.pop(chosen)
        return result

    return order


def together(group_of, batches):
    """Pairs of images of one group in a batch, in the mean over batches."""
    pairs = 0
    for batch in batches:
        counts = np.unique(group_of[batch], return_counts=True)[1]
        pairs += int((counts * (counts - 1) // 2).sum())
    return pairs / len(batches)


def measure(make, starts, epochs, rng):
    count = starts[-1]
    shard_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    class_of = np.arange(count) * CLASSES // count
    correlations, classes, same_shard, again, previous = [], [], [], [], None
    for _ in range(epochs):
        order = make(rng, starts)
        assert (np.sort(order) == np.arange(count)).all()
        batches = order[: count // BATCH * BATCH].reshape(-1, BATCH)
        correlations.append(abs(np.corrcoef(order, np.arange(count))[0, 1]))
        classes.append(np.mean([len(np.unique(class_of[batch])) for batch in batches[::10]]))
        same_shard.append(together(shard_of, batches[::10]))
        if previous is not None:
            again.append(together(previous, batches))
        previous = np.empty(count, np.int64)
        previous[order] = np.arange(count) // BATCH
    return np.mean(correlations), np.mean(classes), np.mean(same_shard), np.mean(again)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_281_167, help="default: ImageNet's")
    parser.add_argument("--shard", type=int, default=1365, help="images of a shard; default: %(default)s")
    parser.add_argument("--page", type=int, default=42, help="images of a page; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    starts = cut(options.images, options.shard)
    shards = len(starts) - 1
    of_all = lambda rng, starts: rng.permutation(starts[-1])
    orders = {"all images": (of_all, 1.0)}
    orders |= {f"windows of {w} shards": (windowed(w), min(2 * w / shards, 1)) for w in (1, 4, 16, 64)}
    orders["Streaming's py1e"] = (streaming(1 << 18), min(1.25 * (1 << 18) / options.images, 1))
    orders["FFCV's quasi-random"] = (quasi_random(options.page), min(2 * BATCH * options.page / options.images, 1))
    print("| order | at hand | rank correlation | classes of a batch | of one shard | together again |")
    print("| --- | --- | --- | --- | --- | --- |")
    reference = None
    for name, (order, share) in orders.items():
        values = measure(order, starts, options.epochs, np.random.default_rng(1))
        reference = reference or values
        correlation, classes = values[:2]
        shard, again = (value / base for value, base in zip(values[2:], reference[2:]))
        print(f"| {name} | {share:.1%} | {correlation:.4f} | {classes:.1f} | {shard:.1f} | {again:.1f} |", flush=True)


if __name__ == "__main__":
    main()
