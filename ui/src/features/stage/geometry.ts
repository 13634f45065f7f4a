/**
 * Where things lie on the stage: a picture fitted into a box, and boxes of the picture as
 * fractions of it. Knows nothing of the page; every length is in CSS px unless it says otherwise.
 */

export interface Size {
  width: number;
  height: number;
}

export interface Rect extends Size {
  left: number;
  top: number;
}

/** `[x0, y0, x1, y1]` in px of the original picture. */
export type Box = [number, number, number, number];

/**
 * The largest rectangle with the picture's proportions inside `room`, centred. A small picture is
 * enlarged at most `maxScale` times.
 */
export function fit(picture: Size, room: Size, maxScale = 6): Rect {
  if (picture.width <= 0 || picture.height <= 0 || room.width <= 0 || room.height <= 0) {
    return { left: 0, top: 0, width: 0, height: 0 };
  }
  const scale = Math.min(room.width / picture.width, room.height / picture.height, maxScale);
  const width = picture.width * scale;
  const height = picture.height * scale;
  return { left: (room.width - width) / 2, top: (room.height - height) / 2, width, height };
}

/** The part of `box` inside the picture, as fractions of the picture; null where nothing is. */
export function fractions(box: Box, picture: Size): Rect | null {
  const clamp = (value: number, max: number) => Math.min(Math.max(value, 0), max);
  const x0 = clamp(box[0], picture.width);
  const y0 = clamp(box[1], picture.height);
  const x1 = clamp(box[2], picture.width);
  const y1 = clamp(box[3], picture.height);
  if (!(x1 > x0 && y1 > y0)) return null;
  return {
    left: x0 / picture.width,
    top: y0 / picture.height,
    width: (x1 - x0) / picture.width,
    height: (y1 - y0) / picture.height,
  };
}

/** As [`fractions`], but keeps what reaches outside: for grids whose cells must stay in place. */
export function fractionsUncut(box: Box, picture: Size): Rect {
  return {
    left: box[0] / picture.width,
    top: box[1] / picture.height,
    width: (box[2] - box[0]) / picture.width,
    height: (box[3] - box[1]) / picture.height,
  };
}

/** A rectangle given as fractions of `outer`, in the px of `outer`. */
export function place(part: Rect, outer: Rect): Rect {
  return {
    left: outer.left + part.left * outer.width,
    top: outer.top + part.top * outer.height,
    width: part.width * outer.width,
    height: part.height * outer.height,
  };
}

/**
 * A line from a word to a region, as an SVG path in the px of the window. It leaves along the gap
 * under the word's line of text as far as `edge`, the left side of the text, so that it crosses no
 * words; then one bend leads to the nearest side of the region.
 */
export function sightLine(word: Rect, region: Rect, edge: number): string {
  const regionRight = region.left + region.width;
  if (regionRight + 12 <= edge) {
    const y = Math.round(word.top + word.height) + 3;
    const middle = region.top + region.height / 2;
    const bend = Math.max(24, (edge - regionRight) * 0.5);
    const curve = `C${edge - bend} ${y} ${regionRight + bend} ${middle} ${regionRight} ${middle}`;
    return `M${word.left + word.width} ${y}H${edge}${curve}`;
  }
  // The picture is above the text: leave upwards, arrive at the region's lower side.
  const x = word.left + word.width / 2;
  const bottom = region.top + region.height;
  const target = region.left + region.width / 2;
  const bend = Math.max(24, (word.top - bottom) * 0.5);
  return `M${x} ${word.top}C${x} ${word.top - bend} ${target} ${bottom + bend} ${target} ${bottom}`;
}

const ACROSS = ["left", "", "right"];
const DOWN = ["top", "", "bottom"];

/** Where a box lies in a picture, in the words that the application uses: "top left". */
export function placeOf(box: Box, picture: Size): string {
  const part = fractions(box, picture);
  if (!part) return "outside the picture";
  const third = (x: number) => Math.min(Math.floor(x * 3), 2);
  const across = third(part.left + part.width / 2);
  const down = third(part.top + part.height / 2);
  const [wide, high] = [part.width > 0.75, part.height > 0.75];
  if (wide && high) return "almost the whole picture";
  if (wide) return `across the ${DOWN[down] || "middle"}`;
  if (high) return across === 1 ? "down the middle" : `down the ${ACROSS[across]} side`;
  return `${DOWN[down]} ${ACROSS[across]}`.trim() || "in the middle";
}

/** A point of a rectangle on the screen in px of the picture that is fitted into it. */
export function pixelAt(x: number, y: number, frame: Rect, picture: Size): [number, number] {
  const inside = (at: number, size: number) => Math.min(Math.max(at, 0), 1) * size;
  return [
    inside((x - frame.left) / Math.max(frame.width, 1), picture.width),
    inside((y - frame.top) / Math.max(frame.height, 1), picture.height),
  ];
}

/** Closed outlines as one SVG path in px of the picture. */
export function ringsPath(rings: [number, number][][]): string {
  return rings
    .filter((ring) => ring.length > 2)
    .map((ring) => `M${ring.map(([x, y]) => `${x} ${y}`).join("L")}Z`)
    .join("");
}
