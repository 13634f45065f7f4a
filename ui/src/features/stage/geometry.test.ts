/** Where a region lies on the stage, for pictures of every shape. */
import { expect, test } from "vitest";
import { fit, fractions, fractionsUncut, place, sightLine, type Box } from "./geometry.ts";

test.each([
  ["wide picture", { width: 200, height: 100 }, { width: 400, height: 400 }, [0, 100, 400, 200]],
  ["tall picture", { width: 100, height: 200 }, { width: 400, height: 400 }, [100, 0, 200, 400]],
  ["tiny picture", { width: 10, height: 10 }, { width: 400, height: 400 }, [170, 170, 60, 60]],
  ["no room", { width: 10, height: 10 }, { width: 0, height: 400 }, [0, 0, 0, 0]],
] as const)("fits a %s", (_, picture, room, [left, top, width, height]) => {
  expect(fit(picture, room)).toEqual({ left, top, width, height });
});

test.each<[string, Box, number[] | null]>([
  ["inside", [50, 25, 100, 50], [0.25, 0.25, 0.25, 0.25]],
  ["over the edge", [150, 50, 300, 300], [0.75, 0.5, 0.25, 0.5]],
  ["outside", [250, 0, 300, 50], null],
  ["empty", [50, 50, 50, 60], null],
  ["not a number", [NaN, 0, 10, 10], null],
])("a box %s becomes fractions", (_, box, want) => {
  const got = fractions(box, { width: 200, height: 100 });
  expect(got && [got.left, got.top, got.width, got.height]).toEqual(want);
});

test("a region lands on the same pixel after fitting", () => {
  const picture = { width: 960, height: 720 };
  const frame = fit(picture, { width: 480, height: 480 });
  const part = fractions([120, 480, 360, 600], picture);
  expect(part && place(part, frame)).toEqual({ left: 60, top: 300, width: 120, height: 60 });
});

test("a padded grid keeps its place outside of the picture", () => {
  const grid = fractionsUncut([0, -20, 100, 120], { width: 100, height: 100 });
  expect(grid).toEqual({ left: 0, top: -0.2, width: 1, height: 1.4 });
});

test("the line runs under the words, then to the side of the region", () => {
  const word = { left: 900, top: 100, width: 40, height: 20 };
  const region = { left: 100, top: 300, width: 100, height: 100 };
  expect(sightLine(word, region, 850)).toMatch(/^M940 123H850C.* 200 350$/);
  const above = { left: 800, top: 0, width: 100, height: 50 };
  expect(sightLine(word, above, 20)).toMatch(/^M920 100C.* 850 50$/);
});
