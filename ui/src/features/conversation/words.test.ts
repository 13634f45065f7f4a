/** How an answer is cut into words, and how firmly a word is said to rest. */
import { expect, test } from "vitest";
import type { Word } from "../../backend";
import { evidence } from "../../backend/fake-evidence.ts";
import { pieces, scoreLabel, spoken, strength, withWord } from "./words.ts";

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

test.each([
  [0.9, "strong"],
  [0.5, "strong"],
  [0.49, "weak"],
  [0.2, "weak"],
  [0.19, "none"],
  [0, "none"],
])("a score of %s is %s", (score, want) => expect(strength(score)).toBe(want));

test.each([
  [0.999, "0.99"],
  [1, "1.00"],
  [-1, "0.00"],
  [0.456, "0.46"],
])("a score of %s reads %s", (score, want) => expect(scoreLabel(score)).toBe(want));

test("the plain-words equivalent names place and strength", () => {
  const car = { ...word(0, 0, 3, "car"), evidence: evidence("car", 0.84) };
  expect(spoken(car)).toBe("car: bottom left, 6 % of the picture. Strong, 0.84 of 1.");
  const dog = { ...car, text: "dog", evidence: evidence("car", 0.05) };
  expect(spoken(dog)).toContain("no region found");
});
