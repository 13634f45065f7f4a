/** What was lost, in words. */
import { expect, test } from "vitest";
import { day, loss, size, surety, value } from "./quantization.svelte.ts";

const around = (lost: number): [number, number] => [lost - 0.0031, lost + 0.005];

const figure = (lost: number | null, holds = true) => ({
  value: 0.9918,
  n: 2599,
  loss: lost === null ? null : { lost, interval: around(lost), holds },
});

test("a loss is told in the unit of its figure, and a gain as one", () => {
  expect(loss(figure(0.0031), "share")).toBe("0.3 points lost");
  expect(loss(figure(-0.0119), "share")).toBe("1.2 points better");
  expect(loss(figure(0.0004), "share")).toBe("no loss");
  expect(loss(figure(-0.0004), "share")).toBe("no loss");
  expect(loss(figure(0.0121), "perplexity")).toBe("1.2 % worse");
  expect(loss(figure(-0.002), "perplexity")).toBe("0.2 % better");
  expect(loss(figure(0.02), "same")).toBe("2.0 % differ");
  expect(loss(figure(0), "same")).toBe("none differs");
  expect(loss(figure(null), "share")).toBe("");
});

test("sample and interval come with it", () => {
  expect(surety(figure(0.0031), "share")).toBe(
    "2,599 judged; loss 0.0 to 0.8 points (95 % interval)",
  );
  expect(surety(figure(0.003), "perplexity")).toContain("loss 0.0 to 0.8 %");
  expect(surety(figure(null), "share")).toBe("2,599 judged");
});

test("values, sizes and days read as people write them", () => {
  expect(value(figure(0), "share")).toBe("99.2 %");
  expect(value({ ...figure(0), value: 1.1412 }, "perplexity")).toBe("1.141");
  expect([6_840_000, 32_400_000, 1_240_000_000].map(size)).toEqual(["6.8 MB", "32 MB", "1.2 GB"]);
  expect(day("2026-01-31T23:30:00Z")).toBe("31 January 2026");
  expect(day("long ago")).toBe("long ago");
});
