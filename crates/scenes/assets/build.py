#!/usr/bin/env python3
"""Builds the sprite pack of the drawn world from ordinary npm packages.

Why it is a script that is run by hand and whose result is committed: the world must look
the same on every machine, so nobody draws SVG at run time. See LICENSES.md for what is
taken from where. It does not know what is done with the sprites: that is the Rust crate.

    mkdir /tmp/art && cd /tmp/art && npm init -y && npm i --ignore-scripts \
      @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/fluent-emoji@1.2.7 \
      @iconify-json/fluent-emoji-flat@1.2.6 @iconify-json/twemoji@1.2.5 \
      @iconify-json/emojione@1.2.3
    pip install pillow==11.* numpy   # and rsvg-convert (librsvg2-bin)
    python3 build.py /tmp/art/node_modules

Writes one lossless WebP atlas for each style and sprites.json (the index) beside itself.
"""

import io
import colorsys
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 96  # the longer side of a sprite, in pixels
COLUMNS = 10

# style name -> (npm package, held out of training)
STYLES = {
    "noto": ("noto", False),
    "twemoji": ("twemoji", False),
    "fluent": ("fluent-emoji", False),
    "emojione": ("emojione", False),
    "fluent-flat": ("fluent-emoji-flat", False),
    "noto-v1": ("noto-v1", True),
}

# Classes that are always shown in a known colour, and which pixels take it: those near the
# sprite's main hue, or, where that hue is none, the bright colourless ones.
TINTED = ["car", "book", "umbrella", "mug", "balloon", "shirt", "dress"]

# class name -> the emoji that draw it
CLASSES = {
    # animals
    "dog": "🐶", "cat": "🐱", "horse": "🐎", "cow": "🐮", "pig": "🐷", "sheep": "🐑",
    "rabbit": "🐰", "elephant": "🐘", "lion": "🦁", "monkey": "🐵", "panda": "🐼", "fox": "🦊",
    "frog": "🐸", "turtle": "🐢", "duck": "🦆", "owl": "🦉", "penguin": "🐧", "fish": "🐟",
    "whale": "🐳", "crab": "🦀", "butterfly": "🦋", "bee": "🐝",
    # food
    "apple": "🍎", "banana": "🍌", "grapes": "🍇", "strawberry": "🍓", "watermelon": "🍉",
 "pineapple": "🍍", "carrot": "🥕", "mushroom": "🍄",
    "bread": "🍞", "pizza": "🍕", "hamburger": "🍔", "ice cream": "🍦",
    "donut": "🍩", "cake": "🎂",
    # vehicles
    "car": "🚗", "bus": "🚌", "bicycle": "🚲", "train": "🚂",
    "airplane": "✈", "rocket": "🚀", "sailboat": "⛵",
    # things
    "house": "🏠", "book": "📕", "clock": "⏰", "key": "🔑", "scissors": "✂",
    "umbrella": "☂", "bell": "🔔", "light bulb": "💡", "phone": "📱", "camera": "📷",
    "gift": "🎁", "mug": "☕", "balloon": "🎈", "pencil": "✏", "chair": "🪑", "shirt": "👕",
    "dress": "👗", "hat": "🎩", "glasses": "👓", "crown": "👑", "ball": "⚽",
 "guitar": "🎸",
    # nature
    "tree": "🌳", "cactus": "🌵", "sunflower": "🌻", "rose": "🌹", "sun": "☀",
 "rainbow": "🌈", "fire": "🔥", "snowman": "⛄",
}

# Names that single packs use for an emoji.
OTHER_NAMES = {}


def icon_svg(pack, char):
    """The SVG text of one emoji in one iconify pack, or None."""
    icons, slugs = pack
    for slug in (s for s in slugs.get(char, [])):
        for name in (slug, slug.replace("-", "")):
            icon = icons["icons"].get(name)
            if icon is None and name in icons.get("aliases", {}):
                icon = icons["icons"].get(icons["aliases"][name]["parent"])
            if icon:
                w = icon.get("width", icons.get("width", 16))
                h = icon.get("height", icons.get("height", 16))
                return (f'<svg xmlns="http://www.w3.org/2000/svg" '
                        f'xmlns:xlink="http://www.w3.org/1999/xlink" '
                        f'viewBox="0 0 {w} {h}" width="{w}" height="{h}">{icon["body"]}</svg>')
    return None


def rasterise(svg):
    """SVG text -> RGBA sprite whose longer side is SIDE, cropped to what is drawn."""
    png = subprocess.run(["rsvg-convert", "-w", "512", "-h", "512", "-a"],
                         input=svg.encode(), stdout=subprocess.PIPE, check=True).stdout
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    image = image.crop(image.getchannel("A").point(lambda a: 255 if a > 24 else 0).getbbox())
    scale = SIDE / max(image.size)
    size = [max(1, round(v * scale)) for v in image.size]
    image = image.convert("RGBa").resize(size, Image.LANCZOS).convert("RGBA")
    return image


def load(modules, package):
    """One iconify pack, and the names under which each emoji may be found in it."""
    icons = json.loads((modules / "@iconify-json" / package / "icons.json").read_text())
    slugs = {}
    for named in ("noto", "twemoji"):
        chars = json.loads((modules / "@iconify-json" / named / "chars.json").read_text())
        for emoji in CLASSES.values():
            for char in emoji.split():
                for code in (f"{ord(char):x}", f"{ord(char):x}-fe0f"):
                    if code in chars and chars[code] not in slugs.get(char, []):
                        slugs.setdefault(char, []).append(chars[code])
    for char, more in OTHER_NAMES.items():
        slugs.setdefault(char, []).extend(more)
    return icons, slugs


def tint_mask(name, image):
    """Which pixels take the object's colour (0..255), and their mean luminance."""
    data = np.asarray(image, dtype=np.float64) / 255
    rgb, alpha = data[..., :3], data[..., 3]
    high, low = rgb.max(-1), rgb.min(-1)
    saturation = np.where(high > 0, (high - low) / np.maximum(high, 1e-6), 0)
    hue = np.array([[colorsys.rgb_to_hsv(*p)[0] for p in row] for row in rgb])
    weight = saturation * high * alpha
    if name == "mug":
        weight_in = ((high > 0.45) & (saturation < 0.35)).astype(float)
    else:
        bins = np.bincount((hue * 36).astype(int).ravel() % 36, weight.ravel(), 36)
        bins = bins + np.roll(bins, 1) + np.roll(bins, -1)
        main = (bins.argmax() + 0.5) / 36
        distance = np.abs((hue - main + 0.5) % 1 - 0.5)
        weight_in = np.clip((0.13 - distance) / 0.04, 0, 1)
        weight_in = weight_in * np.clip((saturation - 0.12) / 0.12, 0, 1) * (high > 0.15)
    luminance = rgb @ np.array([0.299, 0.587, 0.114])
    total = (weight_in * alpha).sum()
    mean = (luminance * weight_in * alpha).sum() / max(total, 1e-6)
    return Image.fromarray((weight_in * 255).round().astype(np.uint8)), round(mean * 255)


def atlas(pack):
    """All sprites of one style in one image, the tint masks in another, and the index."""
    found = []
    for name, emoji in CLASSES.items():
        svg = icon_svg(pack, emoji)
        if svg and name not in EXCLUDED.get(pack[0]["prefix"], []):
            found.append((name, rasterise(svg)))
    rows = -(-len(found) // COLUMNS)
    sheet = Image.new("RGBA", (COLUMNS * SIDE, rows * SIDE), (0, 0, 0, 0))
    masks = Image.new("L", sheet.size, 0)
    cells = []
    for i, (name, image) in enumerate(found):
        x, y = i % COLUMNS * SIDE, i // COLUMNS * SIDE
        sheet.paste(image, (x, y))
        mean = 0
        if name in TINTED:
            mask, mean = tint_mask(name, image)
            masks.paste(mask, (x, y))
        cells.append([name, x, y, *image.size, mean])
    return sheet, masks, cells


# Sprites that were looked at and left out: pack -> classes. (librsvg cannot draw Fluent's
# umbrella, and the one of EmojiOne has every colour at once.)
EXCLUDED = {"fluent-emoji": ["umbrella"], "emojione": ["umbrella"]}


# Fonts whose letters are drawn (Debian fonts-dejavu-core and -extra).
FONTS = ["DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif-Bold", "DejaVuSansMono-Bold",
         "DejaVuSansCondensed-Bold", "DejaVuSerif"]
FONT_FOLDER = Path("/usr/share/fonts/truetype/dejavu")
LETTERS = ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
           ".,:;!?'-+%&$/()")
EM = 40


def glyphs(out):
    """Every letter of every font in one grey sheet; its index says how it stands on a line."""
    cell, cells = 52, []
    sheet = Image.new("L", (len(LETTERS) * cell, len(FONTS) * cell), 0)
    for row, name in enumerate(FONTS):
        font = ImageFont.truetype(str(FONT_FOLDER / f"{name}.ttf"), EM)
        for column, letter in enumerate(LETTERS):
            left, top, right, bottom = font.getbbox(letter, anchor="ls")
            tile = Image.new("L", (cell, cell), 0)
            ImageDraw.Draw(tile).text((1 - left, 1 - top), letter, 255, font, anchor="ls")
            x, y = column * cell, row * cell
            sheet.paste(tile, (x, y))
            box = [x, y, right - left + 2, bottom - top + 2]
            cells.append([row, letter, *box, left - 1, top - 1, font.getlength(letter)])
    sheet.save(out / "glyphs.png", optimize=True)
    rows = ",\n".join(json.dumps(c, ensure_ascii=False) for c in cells)
    (out / "glyphs.json").write_text(
        f'{{"em": {EM}, "fonts": {json.dumps(FONTS)}, "cells": [\n{rows}\n]}}\n')


def main():
    glyphs(Path(__file__).parent)
    modules, out = Path(sys.argv[1]), Path(__file__).parent
    styles = []
    for style, (package, held_out) in STYLES.items():
        sheet, masks, cells = atlas(load(modules, package))
        sheet.save(out / f"{style}.webp", lossless=True, quality=100, method=6)
        masks.save(out / f"{style}-tint.png", optimize=True)
        missing = sorted(set(CLASSES) - {c[0] for c in cells})
        print(style, len(cells), (out / f"{style}.webp").stat().st_size, "missing", missing)
        styles.append({"name": style, "held_out": held_out, "cells": cells})
    rows = ",\n".join(json.dumps(s) for s in styles)
    (out / "sprites.json").write_text('{"styles": [\n' + rows + "\n]}\n")


if __name__ == "__main__":
    main()
