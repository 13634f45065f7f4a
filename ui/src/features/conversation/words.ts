/**
 * An answer as pieces to draw: plain text and words that rest on a region, in the order of
 * reading. Offsets are UTF-16, as the application counts them for us.
 */
import type { Word } from "../../backend";

export interface Piece {
  text: string;
  word: Word | null;
}

/** Splits `text` at its words. A word whose offsets do not fit what is there is left as text. */
export function pieces(text: string, words: Word[]): Piece[] {
  const out: Piece[] = [];
  let at = 0;
  for (const word of [...words].sort((a, b) => a.start - b.start)) {
    if (word.start < at || word.end > text.length || word.end <= word.start) continue;
    if (word.start > at) out.push({ text: text.slice(at, word.start), word: null });
    out.push({ text: text.slice(word.start, word.end), word });
    at = word.end;
  }
  if (at < text.length) out.push({ text: text.slice(at), word: null });
  return out;
}

/** Puts a word where it belongs: one that was sent before is replaced. */
export function withWord(words: Word[], word: Word): Word[] {
  const others = words.filter((known) => known.index !== word.index);
  return [...others, word].sort((a, b) => a.index - b.index);
}

/** The same thing in plain words, for those who cannot or do not look at the picture. */
export function spoken(word: Word): string {
  if (!word.evidence) return `${word.text}: no region found.`;
  const sure = word.probability === null ? "" : `; ${Math.round(100 * word.probability)} % sure`;
  return `${word.text}: rests on: ${word.evidence.words}${sure}.`;
}
