/**
 * An answer as pieces to draw once its claims are known, and what is said about a claim. Offsets
 * are UTF-16. Knows no page.
 */
import type {
  ClaimKind,
  ClaimState,
  ClaimView,
  MarkReliability,
  Word,
  WordWeight,
} from "../../backend";
import { pieces, type Piece } from "../conversation/words.ts";

/** A run of text that belongs to one claim, or to none. */
export interface Stretch {
  claim: ClaimView | null;
  /** Whether it goes when what is not supported is struck. */
  struck: boolean;
  /** The first stretch of its claim: what the Tab key and screen readers stop at. */
  first: boolean;
  parts: Piece[];
}

export const STATES: ClaimState[] = ["seen", "guessed", "unsupported"];

export const STATE: Record<ClaimState, { label: string; says: string }> = {
  seen: { label: "Seen", says: "The picture shows it." },
  guessed: {
    label: "Guessed",
    says: "Unsure, or said just as readily without the picture. That is not the same as wrong.",
  },
  unsupported: { label: "Not supported", says: "The picture does not support it." },
};

export const KIND: Record<ClaimKind, string> = {
  object: "Things",
  colour: "Colours",
  count: "Counts",
  place: "Places",
  relation: "Relations",
  text: "Text read",
  yes_no: "Yes or no",
};

/** "94 %": never rounded up to certainty nor down to nothing. */
export function percent(share: number): string {
  const rounded = Math.round(100 * Math.min(Math.max(share, 0), 1));
  if (rounded === 100 && share < 1) return "99 %";
  return rounded === 0 && share > 0 ? "< 1 %" : `${rounded} %`;
}

/** Claims that may be marked: those whose marks are worth something on this model. */
export function marked(claims: ClaimView[]): ClaimView[] {
  return claims.filter((claim) => claim.trusted);
}

/**
 * Cuts an answer where claims and words begin and end. Where claims lie inside one another the
 * shortest owns the text, so that a relation shows between the things that it relates.
 */
export function stretches(text: string, words: Word[], claims: ClaimView[]): Stretch[] {
  const fits = claims.filter(({ start, end }) => start >= 0 && start < end && end <= text.length);
  const owner = (at: number): ClaimView | null => {
    const around = fits.filter(({ start, end }) => start <= at && at < end);
    around.sort((a, b) => a.end - a.start - (b.end - b.start) || a.index - b.index);
    return around[0] ?? null;
  };
  const ends = fits.flatMap(({ start, end, struck }) => [start, end, ...(struck ?? [])]);
  const cuts = new Set([0, text.length, ...ends.filter((at) => at <= text.length)]);
  const sorted = [...cuts].sort((a, b) => a - b);
  const out: Stretch[] = [];
  const seen = new Set<number>();
  sorted.slice(0, -1).forEach((from, index) => {
    const to = sorted[index + 1]!;
    const claim = owner(from);
    const struck = claim?.struck ? claim.struck[0] <= from && from < claim.struck[1] : false;
    const inside = words
      .filter(({ start, end }) => start >= from && end <= to)
      .map((word) => ({ ...word, start: word.start - from, end: word.end - from }));
    const parts = pieces(text.slice(from, to), inside);
    const last = out.at(-1);
    if (last && last.claim === claim && last.struck === struck) last.parts.push(...parts);
    else {
      const first = claim !== null && !seen.has(claim.index);
      out.push(...trimmed({ claim, struck, first, parts }));
    }
    if (claim && text.slice(from, to).trim() !== "") seen.add(claim.index);
  });
  return out;
}

/** The spaces around a claim are not underlined. */
function trimmed(stretch: Stretch): Stretch[] {
  if (!stretch.claim) return [stretch];
  const nothing = { claim: null, struck: false, first: false };
  const plain = (text: string): Stretch[] =>
    text === "" ? [] : [{ ...nothing, parts: [{ text, word: null }] }];
  const parts = [...stretch.parts];
  const head = parts[0];
  let before = "";
  if (head && !head.word) {
    const kept = head.text.trimStart();
    before = head.text.slice(0, head.text.length - kept.length);
    parts[0] = { ...head, text: kept };
  }
  const tail = parts.at(-1);
  let after = "";
  if (tail && !tail.word) {
    const kept = tail.text.trimEnd();
    after = tail.text.slice(kept.length);
    parts[parts.length - 1] = { ...tail, text: kept };
  }
  const full = parts.filter((part) => part.text !== "");
  const middle = full.length > 0 ? [{ ...stretch, parts: full }] : [];
  return [...plain(before), ...middle, ...plain(after)];
}

/** What a mark of this kind was worth when it was measured; that of all kinds where it is new. */
export function worth(claim: ClaimView, marks: MarkReliability[]): MarkReliability | null {
  const same = marks.filter((mark) => mark.state === claim.state);
  return same.find((mark) => mark.kind === claim.kind) ?? same.find((mark) => !mark.kind) ?? null;
}

/** What a claim rests on as a sentence, without how sure it is. */
export function restsOn(claim: ClaimView): string {
  const says = claim.words.split(";")[0] ?? "";
  return `${says.charAt(0).toUpperCase()}${says.slice(1)}`;
}

/** A claim for those who cannot or do not look at the picture. */
export function spokenClaim(claim: ClaimView): string {
  const tested = claim.tested?.holds ? " Tested." : "";
  return `${claim.text}: ${STATE[claim.state].label.toLowerCase()}; ${claim.words}.${tested}`;
}

/** How many claims are in each state. */
export function tally(claims: ClaimView[]): Record<ClaimState, number> {
  const counts = { seen: 0, guessed: 0, unsupported: 0 };
  claims.forEach((claim) => (counts[claim.state] += 1));
  return counts;
}

/** How thick a word's weight mark is, in tenths of an em: five steps that can be told apart. */
export function weightStep(weights: WordWeight[], word: Word | null): number {
  const found = weights.find((other) => other.word === word?.index);
  return found ? Math.round(Math.min(Math.max(found.weight, 0), 1) * 5) : 0;
}
