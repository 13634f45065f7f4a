/** A question and its answer, as the page keeps them. Knows no page. */
import type { ApiError, ChatMessage, CheckView, Region, Timings, Word } from "../../backend";

export type Phase = "encoding" | "reading" | "answering" | "done" | "failed";

export interface Turn {
  id: number;
  question: string;
  images: number[];
  /** The question is about this part alone. */
  region: Region | null;
  text: string;
  words: Word[];
  phase: Phase;
  /** Seconds since the question was sent. */
  elapsed: number;
  imageTokens: number;
  tokens: number;
  timings: Timings | null;
  cancelled: boolean;
  cut: boolean;
  error: ApiError | null;
  /** Which answer of the chat it is; null until it is complete. */
  answer: number | null;
  check: CheckView | null;
  checking: boolean;
  checkError: ApiError | null;
  /** Unsupported claims are struck through. */
  struck: boolean;
}

export function blank(id: number, question: string, images: number[], region: Region | null): Turn {
  return {
    id,
    question,
    images: [...images],
    region,
    text: "",
    words: [],
    phase: "encoding",
    elapsed: 0,
    imageTokens: 0,
    tokens: 0,
    timings: null,
    cancelled: false,
    cut: false,
    error: null,
    answer: null,
    check: null,
    checking: false,
    checkError: null,
    struck: false,
  };
}

/** A stored conversation as questions with their answers. */
export function turnsOf(messages: ChatMessage[], nextId: () => number): Turn[] {
  const turns: Turn[] = [];
  let answer = 0;
  for (const message of messages) {
    if (message.role === "user") {
      const images = message.region ? [message.region.image] : message.images;
      const turn = blank(nextId(), message.text, images, message.region);
      turns.push({ ...turn, phase: "done" });
      continue;
    }
    const turn = turns.at(-1);
    if (!turn) continue;
    turn.text = message.text;
    turn.words = message.words;
    turn.cancelled = message.cancelled;
    turn.check = message.check;
    turn.answer = answer++;
  }
  return turns;
}
