/** How an answer is cut into words, and what is said of one. */
import { expect, test } from "vitest";
import type { Word } from "../../backend";
import { evidence } from "../../backend/fake-evidence.ts";
import { pieces, spoken, withWord } from "./words.ts";

const word = (index: number, start: number, end: number, text = "w"): Word => ({
  index,
  firstToken: index,
  lastToken: index,
  text,
  start,
  end,
  evidence: null,
  probability: null,
});

test.each([
  [
    "words between text",
    "A red car.",
    [word(1, 2, 5), word(2, 6, 9)],
    ["A ", "red", " ", "car", "."],
  ],
  ["no words", "Yes.", [], ["Yes."]],
  ["a word past the end", "ab", [word(0, 0, 9)], ["ab"]],
  ["words that overlap", "abcd", [word(0, 0, 3), word(1, 2, 4)], ["abc", "d"]],
  ["out of order", "a b", [word(1, 2, 3), word(0, 0, 1)], ["a", " ", "b"]],
  ["nothing", "", [word(0, 0, 1)], []],
])("pieces: %s", (_, text, words, want) => {
  expect(pieces(text, words).map((piece) => piece.text)).toEqual(want);
});

test("pieces add up to the answer", () => {
  const text = "a 🐕 b";
  expect(pieces(text, [word(0, 2, 4)]).map((p) => p.text).join("")).toBe(text);
});

test("a word that comes again replaces the first", () => {
  const words = withWord([word(0, 0, 1), word(1, 2, 3)], word(1, 2, 6));
  expect(words.map((w) => w.end)).toEqual([1, 6]);
});

test("the plain-words equivalent names place, part and surety", () => {
  const car = { ...word(0, 0, 3, "car"), evidence: evidence("car", 0.84), probability: 0.84 };
  expect(spoken(car)).toBe("car: rests on: bottom left, 7 % of the picture; 84 % sure.");
  expect(spoken({ ...car, evidence: null })).toBe("car: no region found.");
});
