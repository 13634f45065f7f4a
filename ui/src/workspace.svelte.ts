/**
 * The state of the window: pictures, the conversation, what is being looked at. Components read it
 * and call its functions; it speaks to the application through `Backend` and knows no page.
 */
import type {
  ApiError,
  AppState,
  AskEvent,
  Attached,
  Backend,
  ClaimView,
  EvidenceView,
  ImageRef,
  ModelCard,
  Quantization,
  Region,
  Start,
  Word,
} from "./backend";
import { blank, turnsOf, type Turn } from "./features/conversation/turns.ts";
import { withWord } from "./features/conversation/words.ts";
import { Inspection } from "./features/evidence/inspection.svelte.ts";
import { Numbers } from "./features/expert/numbers.svelte.ts";
import { Marks } from "./features/evidence/marks.svelte.ts";

export type { Phase, Turn } from "./features/conversation/turns.ts";

/** What is being looked at: a claim or a word of an answer, and the region it rests on. */
export interface Gaze {
  turn: number;
  /** The element that the line of sight leaves from. */
  target: string;
  text: string;
  claim: ClaimView | null;
  word: Word | null;
  /** Absent where no region was found. */
  evidence: EvidenceView | null;
}

/** A claim or a word. */
export type Thing = { claim: ClaimView } | { word: Word };

export type View = "picture" | "seen";

/** How long the last word's region stays after an answer, unless something else is looked at. */
const AFTERGLOW_MS = 2200;

/** Any thrown thing as an error for people. */
export function asApiError(thrown: unknown): ApiError {
  if (typeof thrown === "object" && thrown !== null && "message" in thrown) {
    const { code, message, hint } = thrown as Partial<ApiError>;
    return { code: code ?? "unexpected", message: String(message), hint: hint ?? "" };
  }
  return { code: "unexpected", message: String(thrown), hint: "" };
}

export class Workspace {
  readonly backend: Backend;

  app = $state<AppState | null>(null);
  /** The application itself did not answer. */
  broken = $state<ApiError | null>(null);
  card = $state<ModelCard | null>(null);
  modelError = $state<ApiError | null>(null);
  /** A model is being read, now or again. */
  loading = $state(true);

  images = $state<ImageRef[]>([]);
  /** Pictures that go with the next question. */
  pending = $state<number[]>([]);
  shown = $state<number | null>(null);
  view = $state<View>("picture");

  chat = $state(0);
  turns = $state<Turn[]>([]);
  draft = $state("");
  /** Files hover over the window. */
  over = $state(false);
  notices = $state<ApiError[]>([]);
  modelOpen = $state(false);

  /** The next question is about this part of a picture alone. */
  about = $state<Region | null>(null);

  hovered = $state<Gaze | null>(null);
  pinned = $state<Gaze | null>(null);
  live = $state<Gaze | null>(null);

  readonly inspection = new Inspection(this);
  readonly marks = new Marks(this);
  readonly numbers = new Numbers(this);

  readonly gaze = $derived(this.hovered ?? this.pinned ?? this.live);
  readonly busy = $derived(this.turns.some((t) => t.phase !== "done" && t.phase !== "failed"));
  readonly ready = $derived(this.card !== null);
  /** Pictures of this conversation and those that wait to join it, in the order of opening. */
  readonly strip = $derived.by(() => {
    const wanted = new Set([...this.turns.flatMap((t) => t.images), ...this.pending]);
    return this.images.filter((image) => wanted.has(image.id));
  });
  /** The picture on the stage: the one the looked-at word speaks of, else the chosen one. */
  readonly current = $derived.by(() => {
    const id = this.gaze?.evidence?.image ?? this.shown;
    return this.images.find((image) => image.id === id) ?? this.strip[0] ?? null;
  });
  readonly canAsk = $derived(
    this.ready && !this.busy && this.draft.trim() !== "" && this.strip.length > 0,
  );

  #nextTurn = 1;
  #ticker: ReturnType<typeof setInterval> | undefined;
  #afterglow: ReturnType<typeof setTimeout> | undefined;
  #stopDrop: () => void = () => {};

  constructor(backend: Backend) {
    this.backend = backend;
  }

  /** Reads the state of the application and waits for its model. */
  async start(): Promise<void> {
    try {
      this.#adopt(await this.backend.state());
      this.#stopDrop = await this.backend.onDrop(
        (inside) => (this.over = inside),
        (attached) => this.#take(attached),
      );
    } catch (thrown) {
      this.broken = asApiError(thrown);
      return;
    }
    await this.#awaitModel(this.backend.loaded());
  }

  close(): void {
    this.#stopDrop();
    clearInterval(this.#ticker);
    clearTimeout(this.#afterglow);
  }

  // Pictures -------------------------------------------------------------------------------

  async pick(): Promise<void> {
    await this.#trying(async () => this.#take(await this.backend.pickImages()));
  }

  async attach(files: Iterable<File>): Promise<void> {
    const attached: Attached = { images: [], errors: [] };
    for (const file of files) {
      try {
        attached.images.push(await this.backend.attach(file));
      } catch (thrown) {
        attached.errors.push(asApiError(thrown));
      }
    }
    this.#take(attached);
  }

  show(id: number): void {
    this.shown = id;
    this.pinned = this.hovered = this.live = null;
  }

  /** Takes a picture off the next question. */
  async withdraw(id: number): Promise<void> {
    this.pending = this.pending.filter((other) => other !== id);
    if (this.turns.some((turn) => turn.images.includes(id))) return;
    if (this.shown === id) this.shown = this.strip[0]?.id ?? null;
    const image = this.images.find((other) => other.id === id);
    if (image?.example) return;
    this.images = this.images.filter((other) => other.id !== id);
    await this.#trying(() => this.backend.forgetImage(id));
  }

  /** The picture that came with the program, ready to be asked about. */
  useExample(): void {
    const example = this.images.find((image) => image.example);
    if (!example) return;
    if (!this.strip.includes(example)) this.pending = [...this.pending, example.id];
    this.show(example.id);
  }

  // Conversation ---------------------------------------------------------------------------

  async ask(question = this.draft): Promise<void> {
    const text = question.trim();
    if (text === "" || this.busy || !this.ready || this.strip.length === 0) return;
    const about = this.about;
    // A question about a part is about its picture alone; the others wait for the next one.
    const images = about ? [about.image] : [...this.pending];
    const turn = this.#begin(text, images, about);
    const request = { chat: this.chat, question: text, images: about ? [] : images, region: about };
    this.draft = "";
    this.about = null;
    if (!about) this.pending = [];
    await this.#follow(turn, (on) => this.backend.ask(request, on));
  }

  /** Answers the last question again. */
  async again(): Promise<void> {
    const last = this.turns.at(-1);
    if (!last || this.busy || !this.ready) return;
    this.#dropGaze();
    // A question that failed was never taken up by the application: it is asked anew.
    if (last.error) {
      this.turns.pop();
      this.about = last.region;
      if (!last.region) this.pending = [...new Set([...last.images, ...this.pending])];
      return this.ask(last.question);
    }
    this.turns[this.turns.length - 1] = blank(last.id, last.question, last.images, last.region);
    await this.#follow(last.id, (on) => this.backend.regenerate(this.chat, on));
  }

  async stop(): Promise<void> {
    await this.#trying(() => this.backend.cancel(this.chat));
  }

  /** A fresh conversation about the picture on the stage. */
  async newChat(): Promise<void> {
    if (this.busy) await this.stop();
    await this.#trying(async () => {
      const keep = this.current?.id ?? null;
      this.chat = await this.backend.newChat();
      clearInterval(this.#ticker);
      this.#dropGaze();
      this.inspection.reset();
      this.about = null;
      this.turns = [];
      this.pending = keep === null ? [] : [keep];
      this.shown = keep;
      this.view = "picture";
    });
  }

  // Looking --------------------------------------------------------------------------------

  look(turn: number, thing: Thing | null): void {
    this.hovered = thing && this.gazeAt(turn, thing);
    if (thing) this.live = null;
  }

  /** Keeps a claim and its region until it is chosen again or let go. */
  pin(turn: number, thing: Thing): void {
    const gaze = this.gazeAt(turn, thing);
    const same = this.pinned?.target === gaze.target;
    this.pinned = same ? null : gaze;
    if (same) this.hovered = null;
    this.inspection.clear();
    const trial = this.inspection.trial;
    if (trial && (same || trial.claim?.index !== gaze.claim?.index)) void this.inspection.close();
  }

  gazeAt(turn: number, thing: Thing): Gaze {
    if ("claim" in thing) {
      const { claim } = thing;
      const target = `claim-${turn}-${claim.index}`;
      return { turn, target, text: claim.text, claim, word: null, evidence: claim.evidence };
    }
    const { word } = thing;
    const target = `word-${turn}-${word.index}`;
    return { turn, target, text: word.text, claim: null, word, evidence: word.evidence };
  }

  letGo(): void {
    this.#dropGaze();
  }

  // Model ----------------------------------------------------------------------------------

  async openModel(folder: string): Promise<void> {
    await this.#awaitModel(this.backend.openModel(folder));
  }

  async pickModel(kind: "folder" | "file" = "folder"): Promise<void> {
    const before = this.card;
    await this.#awaitModel(this.backend.pickModel(kind).then((card) => card ?? before));
  }

  /** Loads the model again with its weights held so; false where it stays as it was. */
  async setQuantization(quantization: Quantization): Promise<boolean> {
    await this.#awaitModel(this.backend.setQuantization(quantization));
    return this.modelError === null;
  }

  async #awaitModel(coming: Promise<ModelCard | null>): Promise<void> {
    this.loading = true;
    this.modelError = null;
    try {
      this.card = await coming;
      // Tiles are only known once there is a model.
      this.images = (await this.backend.state()).images;
      await this.marks.read();
    } catch (thrown) {
      this.modelError = asApiError(thrown);
    } finally {
      this.loading = false;
    }
  }

  // Inside ---------------------------------------------------------------------------------

  #adopt(state: Start): void {
    this.app = state;
    this.notices = state.notices ?? [];
    this.images = state.images;
    const chat = state.chats.at(-1);
    this.chat = chat?.id ?? 0;
    this.turns = turnsOf(chat?.messages ?? [], () => this.#nextTurn++);
    const used = new Set(this.turns.flatMap((turn) => turn.images));
    const own = state.images.filter((image) => !image.example && !used.has(image.id));
    const example = state.images.find((image) => image.example && !used.has(image.id));
    if (own.length > 0) this.pending = own.map((image) => image.id);
    else if (this.turns.length === 0 && example) this.pending = [example.id];
    this.shown = this.pending.at(-1) ?? this.strip.at(-1)?.id ?? null;
  }

  #take({ images, errors }: Attached): void {
    this.over = false;
    this.notices = [...errors, ...this.notices].slice(0, 4);
    if (images.length === 0) return;
    const known = new Set(this.images.map((image) => image.id));
    this.images = [...this.images, ...images.filter((image) => !known.has(image.id))];
    const ids = images.map((image) => image.id);
    // The example steps aside for the first picture of the user's own.
    const kept = this.pending.filter(
      (id) => !ids.includes(id) && !this.images.find((image) => image.id === id)?.example,
    );
    this.pending = [...kept, ...ids];
    this.view = "picture";
    this.show(ids[0]!);
  }

  #begin(question: string, images: number[], region: Region | null): number {
    this.#dropGaze();
    this.inspection.reset();
    const id = this.#nextTurn++;
    this.turns.push(blank(id, question, images, region));
    return id;
  }

  async #follow(id: number, run: (on: (e: AskEvent) => void) => Promise<void>): Promise<void> {
    const started = Date.now();
    clearInterval(this.#ticker);
    clearTimeout(this.#afterglow);
    const tick = () => {
      const turn = this.turns.find((t) => t.id === id);
      if (turn) turn.elapsed = (Date.now() - started) / 1000;
    };
    this.#ticker = setInterval(tick, 100);
    try {
      await run((event) => this.#hear(id, event));
    } catch (thrown) {
      this.#fail(id, asApiError(thrown));
    } finally {
      clearInterval(this.#ticker);
      tick();
      this.#afterglow = setTimeout(() => (this.live = null), AFTERGLOW_MS);
    }
  }

  #hear(id: number, event: AskEvent): void {
    const turn = this.turns.find((t) => t.id === id);
    if (!turn) return;
    switch (event.type) {
      case "started":
        turn.phase = "reading";
        turn.imageTokens = event.imageTokens;
        break;
      case "token":
        turn.phase = "answering";
        turn.text += event.text;
        turn.tokens += 1;
        break;
      case "word": {
        const { type: _, ...word } = event;
        turn.words = withWord(turn.words, word);
        if (word.evidence && this.marks.on) this.live = this.gazeAt(id, { word });
        break;
      }
      case "finished":
        turn.phase = "done";
        turn.answer = event.answer;
        turn.text = event.text;
        turn.timings = event.timings;
        turn.tokens = event.tokens;
        turn.cancelled = event.cancelled;
        turn.cut = event.cut;
        if (this.marks.on && turn.text !== "" && turn.images.length + this.strip.length > 0)
          void this.inspection.check(id);
        break;
      case "failed":
        this.#fail(id, event);
    }
  }

  #fail(id: number, { code, message, hint }: ApiError): void {
    const turn = this.turns.find((t) => t.id === id);
    if (!turn || turn.phase === "done") return;
    turn.phase = "failed";
    turn.error = { code, message, hint };
  }

  #dropGaze(): void {
    clearTimeout(this.#afterglow);
    this.hovered = this.pinned = this.live = null;
  }

  /** Shows what went wrong outside of an answer. */
  tell(thrown: unknown): void {
    this.notices = [asApiError(thrown), ...this.notices].slice(0, 4);
  }

  async #trying(action: () => Promise<unknown>): Promise<void> {
    try {
      await action();
    } catch (thrown) {
      this.tell(thrown);
    }
  }
}
