/**
 * The attention over a picture as pixels: one pixel for each cell, one hue, opacity on a scale that
 * is the same for every word, so that a flat map looks flat.
 */
import type { HeatmapView } from "../../backend";

/** Opacity is full when a cell holds this many times its even share of the whole attention. */
const FULL_AT_TIMES_EVEN = 10;
const MAX_ALPHA = 0.36;
const HUE = [255, 179, 38] as const;

/** RGBA, row by row, `rows * cols` pixels. */
export function heatPixels({ rows, cols, values }: HeatmapView): Uint8ClampedArray<ArrayBuffer> {
  const pixels = new Uint8ClampedArray(rows * cols * 4);
  const full = Math.min(FULL_AT_TIMES_EVEN / (rows * cols), 0.5);
  for (let cell = 0; cell < rows * cols; cell += 1) {
    const share = Math.min(Math.max((values[cell] ?? 0) / full, 0), 1);
    pixels.set(HUE, cell * 4);
    pixels[cell * 4 + 3] = Math.round(255 * MAX_ALPHA * share ** 0.8);
  }
  return pixels;
}
