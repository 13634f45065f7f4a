/** How an answer is cut at its claims, and what is said of one. */
import { expect, test } from "vitest";
import type { ClaimView, MarkReliability, Word } from "../../backend";
import { CHECK, TEXT } from "../../backend/fake-evidence.ts";
import { marked, percent, spokenClaim, stretches, tally, weightStep, worth } from "./claims.ts";

const claims = CHECK().claims;
const at = (index: number, start: number, end: number): ClaimView => ({
  ...claims[0]!,
  index,
  start,
  end,
});

test("an answer is cut where its claims begin and end, and nothing is lost", () => {
  const runs = stretches(TEXT, [], claims);
  expect(runs.filter(({ claim }) => claim).map(({ claim }) => claim!.text)).toEqual([
    "A red car",
    "in front of",
    "a house",
    "a tree",
    "a dog",
  ]);
  const text = runs.flatMap(({ parts }) => parts.map((part) => part.text)).join("");
  expect(text).toBe(TEXT);
});

test.each([
  [
    "one inside another",
    "a car by a house",
    [at(0, 0, 16), at(1, 0, 5), at(2, 9, 16)],
    ["a car:1", " :-", "by:0", " :-", "a house:2"],
  ],
  ["past the end", "a car", [at(0, 0, 9)], ["a car:-"]],
  ["the same text twice", "red", [at(0, 0, 3), at(1, 0, 3)], ["red:0"]],
  ["nothing", "", [at(0, 0, 1)], []],
])("stretches: %s", (_, text, given, want) => {
  const runs = stretches(text, [], given);
  const shown = runs.map(({ claim, parts }) => {
    const said = parts.map((part) => part.text).join("");
    return `${said}:${claim?.index ?? "-"}`;
  });
  expect(shown).toEqual(want);
});

test("a claim in two pieces is one stop", () => {
  const runs = stretches("a car by a house and a dog", [], [at(0, 0, 26), at(1, 9, 16)]);
  expect(runs.filter(({ first }) => first).map(({ claim }) => claim!.index)).toEqual([0, 1]);
});

test("of counted things only the number is struck", () => {
  const counted = { ...at(0, 0, 10), struck: [0, 5] as [number, number] };
  const runs = stretches("Three dogs.", [], [counted]);
  const said = runs.map(({ struck, parts }) => [parts.map((part) => part.text).join(""), struck]);
  expect(said).toEqual([
    ["Three", true],
    [" ", false],
    ["dogs", false],
    [".", false],
  ]);
  expect(runs.filter(({ first }) => first)).toHaveLength(1);
});

test("words keep their place inside a claim", () => {
  const word: Word = {
    index: 2,
    firstToken: 2,
    lastToken: 2,
    text: "car",
    start: 6,
    end: 9,
    evidence: null,
    probability: null,
  };
  const parts = stretches(TEXT, [word], claims)[0]!.parts;
  expect(parts.map((part) => part.text)).toEqual(["A red ", "car"]);
  expect(parts[1]!.word?.index).toBe(2);
  expect(weightStep([{ word: 2, text: "car", weight: 0.81 }], word)).toBe(4);
  expect(weightStep([], word)).toBe(0);
});

test.each([
  [0.944, "94 %"],
  [0.999, "99 %"],
  [1, "100 %"],
  [0.001, "< 1 %"],
  [0, "0 %"],
  [-1, "0 %"],
])("%s reads %s", (share, want) => expect(percent(share)).toBe(want));

test("a claim in plain words: state, place, part, surety", () => {
  expect(spokenClaim(claims[0]!)).toBe(
    "A red car: seen; rests on: bottom left, 7 % of the picture; 97 % sure.",
  );
  expect(spokenClaim(claims[4]!)).toBe("a dog: not supported; no region found; 8 % sure.");
});

test("a mark is worth what it was for its kind, else for its state", () => {
  const mark = (kind: MarkReliability["kind"], n: number): MarkReliability => ({
    state: "seen",
    kind,
    n,
    wrong: 0.1,
    beatsChance: true,
    words: "",
  });
  expect(worth(claims[0]!, [mark(null, 1), mark("object", 2)])?.n).toBe(2);
  expect(worth(claims[0]!, [mark(null, 1), mark("count", 2)])?.n).toBe(1);
  expect(worth(claims[4]!, [mark(null, 1)])).toBeNull();
  expect(marked([{ ...claims[0]!, trusted: false }, claims[1]!])).toHaveLength(1);
  expect(tally(claims)).toEqual({ seen: 2, guessed: 2, unsupported: 1 });
});
