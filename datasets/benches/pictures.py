"""Random pictures in every kind of file that is read, for `compare_decoders.py`."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageFile


def samples(draw, channels, largest, longest):
    """Waves or noise, [H,W,C] 0..=largest."""
    width, height = draw.randint(1, longest), draw.randint(1, longest)
    y, x = np.mgrid[:height, :width]
    if draw.random() < 0.3:
        noise = np.random.default_rng(draw.randrange(1 << 30))
        return noise.integers(0, largest + 1, (height, width, channels))
    waves = [np.sin(x / draw.uniform(3, 40)) * np.cos(y / draw.uniform(3, 40)) for _ in range(channels)]
    return ((np.stack(waves, 2) * 0.4 + 0.5) * largest).astype(int)


def picture(draw, modes, longest=None):
    mode = draw.choice(modes)
    channels = len(Image.new(mode, (1, 1)).getbands())
    longest = longest or (40 if draw.random() < 0.3 else 300)
    planes = samples(draw, channels, 255, longest).astype(np.uint8)
    return Image.merge(mode, [Image.fromarray(planes[:, :, c]) for c in range(channels)])


def saved(image, **options):
    # Pillow's memory for a small picture of high quality is too little when it optimises.
    ImageFile.MAXBLOCK = 1 << 22
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def jpeg(draw):
    image = picture(draw, ["L", "RGB", "RGB", "CMYK"])
    options = {"quality": draw.randint(1, 100), "progressive": draw.random() < 0.3, "optimize": draw.random() < 0.3}
    if image.mode == "RGB" and draw.random() < 0.1:
        options["keep_rgb"] = True
    elif image.mode == "RGB":
        options["subsampling"] = draw.choice(["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
    if draw.random() < 0.3:
        options[draw.choice(["restart_marker_blocks", "restart_marker_rows"])] = draw.randint(1, 9)
    return saved(image, format="JPEG", **options)


def packed(rows, bits, big_endian=True):
    """Rows [H,N] of numbers of so many bits, each filled up to whole bytes."""
    if bits >= 8:
        return rows.astype((">u" if big_endian else "<u") + str(bits // 8)).tobytes()
    unpacked = (rows[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(unpacked.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def png(draw):
    kinds = [(0, [1, 2, 4, 8, 16]), (2, [8, 16]), (3, [1, 2, 4, 8]), (4, [8, 16]), (6, [8, 16])]
    color_type, depths = draw.choice(kinds)
    depth = draw.choice(depths)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    pixels = samples(draw, channels, (1 << depth) - 1, 40)
    height, width = pixels.shape[:2]
    interlaced = draw.random() < 0.5
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    data = b""
    for left, top, right, down in passes if interlaced else [(0, 0, 1, 1)]:
        part = pixels[top::down, left::right]
        rows = packed(part.reshape(len(part), -1), depth) if part.size else b""
        length = len(rows) // len(part) if part.size else 0
        data += b"".join(b"\0" + rows[at : at + length] for at in range(0, len(rows), length or 1))

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    file = b"\x89PNG\r\n\x1a\n"
    file += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced))
    if color_type == 3:
        file += chunk(b"PLTE", draw.randbytes(3 << depth))
    if color_type in (0, 2, 3) and draw.random() < 0.3:
        file += chunk(b"tRNS", {0: b"\0\1", 2: b"\0\1" * 3, 3: b"\0\x80"}[color_type])
    return file + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def webp(draw):
    image = picture(draw, ["RGB", "RGBA"])
    options = {"lossless": draw.random() < 0.5, "quality": draw.randint(1, 100), "exact": draw.random() < 0.5}
    if draw.random() < 0.3:
        options |= {"save_all": True, "append_images": [image.rotate(180)]}
    return saved(image, format="WEBP", **options)


def gif(draw):
    image = picture(draw, ["L", "RGB"], 60).quantize(draw.choice([2, 5, 16, 100, 256]))
    options = {"transparency": draw.randrange(2)} if draw.random() < 0.4 else {}
    if draw.random() < 0.3:
        options |= {"save_all": True, "append_images": [image.rotate(180)]}
    file = bytearray(saved(image, format="GIF", interlace=draw.randrange(2), optimize=draw.random() < 0.5, **options))
    table = 3 << (file[10] & 7) + 1
    frame = 13 + table
    while file[frame : frame + 1] == b"!":
        frame += 2
        while file[frame]:
            frame += file[frame] + 1
        frame += 1
    if draw.random() < 0.5:
        # The picture does not fill the screen, or goes beyond it.
        width, height = struct.unpack("<HH", file[6:10])
        file[6:10] = struct.pack("<HH", width + draw.randint(-width + 1, 20), height + draw.randint(-height + 1, 20))
        file[frame + 1 : frame + 5] = struct.pack("<HH", draw.randint(0, 9), draw.randint(0, 9))
    if draw.random() < 0.5:
        # The palette is that of the picture alone.
        colors = file[13 : 13 + table]
        file[frame + 9] |= 0x80 | file[10] & 7
        file[frame + 10 : frame + 10] = colors
        file[13 : 13 + table] = b""
        file[10] = 0
    return bytes(file)


def run_lengths(draw, row, bits):
    """A row of a BMP file of palette indices, as runs and as stretches."""
    out, at = b"", 0
    while at < len(row):
        left = len(row) - at
        if draw.random() < 0.5 and left >= 4:
            stretch = row[at : at + draw.randint(3, min(left, 200))]
            data = packed(stretch[None], bits)
            out += bytes([0, len(stretch)]) + data + b"\0" * (len(data) % 2)
            at += len(stretch)
        else:
            run = 1
            while run < min(left, 255) and row[at + run] == row[at]:
                run += 1
            out += bytes([run, row[at] * (17 if bits == 4 else 1)])
            at += run
    return out


def bmp(draw):
    bits = draw.choice([1, 4, 8, 16, 24, 32])
    channels, largest = {16: (1, 0xFFFF), 24: (3, 255), 32: (4, 255)}.get(bits, (1, (1 << min(bits, 8)) - 1))
    pixels = samples(draw, channels, largest, 60)
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    packs = bits in (4, 8) and draw.random() < 0.4
    fields = bits == 16 and draw.random() < 0.5
    top_down = not packs and draw.random() < 0.3
    if packs:
        data = b"".join(run_lengths(draw, row, bits) + b"\0\0" for row in rows[::-1]) + b"\0\1"
    else:
        sized = [packed(row[None], 16 if bits == 16 else min(bits, 8), False) for row in rows]
        data = b"".join(row + b"\0" * (-len(row) % 4) for row in (sized if top_down else sized[::-1]))
    colors = 1 << bits if bits <= 8 else 0
    if bits <= 8 and not packs and not top_down and draw.random() < 0.2:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits) + draw.randbytes(3 * colors)
    else:
        compression = {4: 2, 8: 1}[bits] if packs else 3 if fields else 0
        height = -height if top_down else height
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0)
        header += struct.pack("<III", 0xF800, 0x7E0, 0x1F) if fields else b""
        header += b"".join(draw.randbytes(3) + b"\0" for _ in range(colors))
    offset = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + data


def pack_bits(data):
    """Stretches of up to 128 bytes."""
    parts = [data[at : at + 128] for at in range(0, len(data), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def tiff(draw):
    if draw.random() < 0.3:
        # By libtiff.
        compression = draw.choice(["jpeg", "tiff_lzw", "group4", "tiff_adobe_deflate", "packbits"])
        modes = {"jpeg": ["L", "RGB"], "group4": ["L"]}.get(compression, ["L", "RGB", "RGBA", "CMYK", "LA"])
        image = picture(draw, modes)
        image = image.convert("1") if compression == "group4" else image
        return saved(image, format="TIFF", compression=compression)
    levels = [1, 2, 4, 8, 16]
    # Not 16 bits where white is 0: Pillow takes them as if black were.
    kinds = [(0, 1, levels[:4]), (1, 1, levels), (2, 3, [8, 16]), (3, 1, levels[:4]), (5, 4, [8]), (6, 3, [8])]
    photometric, channels, depths = draw.choice(kinds)
    bits = draw.choice(depths)
    extra = draw.choice([None, None, 0, 1, 2]) if photometric == 2 else None
    channels += extra is not None
    pixels = samples(draw, channels, (1 << bits) - 1, 60)
    height, width = pixels.shape[:2]
    big_endian, planar = draw.random() < 0.5, channels > 1 and photometric != 6 and draw.random() < 0.4
    compression, pack = draw.choice([(1, bytes), (8, zlib.compress), (32773, pack_bits)])
    # Pillow takes bytes of such planes for samples.
    planar = planar and (bits < 16 or compression != 1)
    reversed_bits = bits < 8 and draw.random() < 0.3
    predicts = bits >= 8 and compression == 8 and draw.random() < 0.4
    tiled = draw.random() < 0.4
    part_width, part_height = (16 * draw.randint(1, 3) for _ in "wh") if tiled else (width, draw.randint(1, height))
    parts = []
    for plane in np.split(pixels, channels, 2) if planar else [pixels]:
        for top in range(0, height, part_height):
            for left in range(0, width, part_width):
                part = plane[top : top + part_height, left : left + part_width]
                if tiled:
                    part = np.pad(part, [(0, part_height - part.shape[0]), (0, part_width - part.shape[1]), (0, 0)])
                if predicts:
                    part = np.diff(part, axis=1, prepend=0) % (1 << bits)
                data = pack(packed(part.reshape(len(part), -1), bits, big_endian))
                if reversed_bits:
                    data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
                parts.append(data + b"\0" * (len(data) % 2))
    end = ">" if big_endian else "<"
    offsets = [8 + sum(map(len, parts[:number])) for number in range(len(parts))]
    tags = {256: [width], 257: [height], 258: [bits] * channels, 259: [compression]}
    tags |= {262: [photometric], 277: [channels]}
    tags |= {284: [2]} if planar else {}
    tags |= {266: [2]} if reversed_bits else {}
    tags |= {317: [2]} if predicts else {}
    tags |= {338: [extra]} if extra is not None else {}
    tags |= {320: [draw.randrange(65536) for _ in range(3 << bits)]} if photometric == 3 else {}
    tags |= {530: [1, 1]} if photometric == 6 else {}
    where = {322: [part_width], 323: [part_height]} if tiled else {278: [part_height]}
    longs = {324 if tiled else 273: offsets, 325 if tiled else 279: list(map(len, parts))}
    tags |= where | longs
    directory, beyond = struct.pack(end + "H", len(tags)), b""
    start = 8 + sum(map(len, parts)) + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        content = struct.pack(f"{end}{len(values)}{'I' if tag in longs else 'H'}", *values)
        if len(content) > 4:
            content, beyond = struct.pack(end + "I", start + len(beyond)), beyond + content + b"\0" * (len(content) % 2)
        directory += struct.pack(end + "HHI", tag, 4 if tag in longs else 3, len(values)) + content.ljust(4, b"\0")
    header = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(end + "I", 8 + sum(map(len, parts)))
    return header + b"".join(parts) + directory + b"\0" * 4 + beyond


def pnm(draw):
    if draw.random() < 0.3:
        return saved(Image.fromarray(samples(draw, 1, 65535, 60)[:, :, 0].astype(np.uint16)), format="PPM")
    image = picture(draw, ["L", "RGB"], 60)
    return saved(image.convert("1") if draw.random() < 0.3 else image, format="PPM")


WRITERS = {"jpg": jpeg, "png": png, "webp": webp, "gif": gif, "bmp": bmp, "tif": tiff, "pnm": pnm}
