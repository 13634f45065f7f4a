/** The scale of the heat is absolute: a flat map stays faint. */
import { expect, test } from "vitest";
import { heatPixels } from "./heat.ts";

const source: [number, number, number, number] = [0, 0, 1, 1];
const alphas = (pixels: Uint8ClampedArray) => [...pixels].filter((_, i) => i % 4 === 3);

test("a flat map is faint, a peaked one is not", () => {
  const flat = Array.from({ length: 36 }, () => 1 / 36);
  const peaked = flat.map((_, cell) => (cell === 7 ? 0.9 : 0));
  const low = alphas(heatPixels({ rows: 6, cols: 6, values: flat, source }));
  const high = alphas(heatPixels({ rows: 6, cols: 6, values: peaked, source }));
  expect(Math.max(...low)).toBeLessThan(Math.max(...high) / 3);
  expect(high[7]).toBe(Math.max(...high));
  expect(high[8]).toBe(0);
});

test("missing values are dark", () => {
  expect(alphas(heatPixels({ rows: 2, cols: 2, values: [], source }))).toEqual([0, 0, 0, 0]);
});
