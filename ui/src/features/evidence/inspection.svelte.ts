/**
 * What the user does with the evidence of an answer: checks it, covers and tests, looks without
 * the picture, searches a word, points at a spot, strikes what is not supported. One thing is
 * tried at a time. Knows no page.
 */
import type {
  AnswerRef,
  ApiError,
  ClaimView,
  CoverView,
  Region,
  SpotView,
  TrialEvent,
  WithoutView,
  WordRegion,
  WordSearch,
} from "../../backend";
import { asApiError, type Turn, type Workspace } from "../../workspace.svelte.ts";
import { marked } from "./claims.ts";

export type TrialKind = "cover" | "test" | "without";

/** Something that is tried on an answer, and its outcome. */
export interface Trial {
  kind: TrialKind;
  turn: number;
  /** The claim whose fate is followed. */
  claim: ClaimView | null;
  region: Region | null;
  running: boolean;
  /** The user asked for its end. */
  stopping: boolean;
  done: number;
  all: number;
  secondsLeft: number | null;
  /** What is said without the picture, so far. */
  saying: string;
  cover: CoverView | null;
  without: WithoutView | null;
  error: ApiError | null;
}

export interface Search {
  query: string;
  busy: boolean;
  result: WordSearch | null;
  error: ApiError | null;
}

export interface Spot {
  turn: number;
  busy: boolean;
  /** What is asked about, until it is known what was hidden. */
  at: [number, number];
  image: number;
  view: SpotView | null;
}

export class Inspection {
  trial = $state<Trial | null>(null);
  search = $state<Search | null>(null);
  spot = $state<Spot | null>(null);
  /** A part of the picture that the user drew. */
  box = $state<Region | null>(null);
  /** Regions that the running test has found so far. */
  found = $state<WordRegion[]>([]);
  #workspace: Workspace;

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
  }

  /** The answer that a spot or a box is held against: the last one about what is shown. */
  readonly subject = $derived.by((): Turn | null => {
    const pinned = this.#workspace.pinned?.turn;
    const answered = this.#workspace.turns.filter(
      (turn) => turn.answer !== null && turn.text !== "",
    );
    return answered.find((turn) => turn.id === pinned) ?? answered.at(-1) ?? null;
  });

  // Claims ---------------------------------------------------------------------------------

  /** Checks the claims of an answer, unless the model's marks are worth nothing. */
  async check(id: number): Promise<void> {
    const turn = this.#turn(id);
    const answer = turn && this.#answer(turn);
    if (!turn || !answer || turn.checking) return;
    turn.checking = true;
    turn.checkError = null;
    try {
      turn.check = await this.#workspace.backend.check(answer);
    } catch (thrown) {
      const error = asApiError(thrown);
      turn.checkError = error.code === "cancelled" ? null : error;
    } finally {
      turn.checking = false;
    }
  }

  /** Shows the unsupported claims struck through, or again as they were said. */
  strike(id: number, struck: boolean): void {
    const turn = this.#turn(id);
    if (turn) turn.struck = struck;
  }

  // Trials ---------------------------------------------------------------------------------

  /** Covers the claim's region, or one that was drawn, and asks again. */
  async cover(id: number, claim: ClaimView | null, region: Region | null = null): Promise<void> {
    const where = region ?? (claim?.evidence && regionOf(claim));
    const turn = this.#turn(id);
    const answer = turn && this.#answer(turn);
    if (!where || !answer) return;
    await this.#try({ kind: "cover", turn: id, claim, region: where }, async (trial, on) => {
      const request = { answer, claim: claim?.index ?? null, region: where };
      trial.cover = await this.#workspace.backend.cover(request, on);
      if (claim && region === null) this.#replace(id, { ...claim, tested: trial.cover });
    });
  }

  /** The thorough test: what each word rests on by knock-out, then the region covered. */
  async test(id: number, claim: ClaimView): Promise<void> {
    const turn = this.#turn(id);
    const answer = turn && this.#answer(turn);
    if (!answer) return;
    await this.#try({ kind: "test", turn: id, claim, region: null }, async (trial, on) => {
      const view = await this.#workspace.backend.test(answer, claim.index, on);
      trial.cover = view.claim.tested;
      trial.claim = view.claim;
      this.#replace(id, view.claim);
    });
  }

  async without(id: number): Promise<void> {
    const turn = this.#turn(id);
    const answer = turn && this.#answer(turn);
    if (!answer) return;
    await this.#try({ kind: "without", turn: id, claim: null, region: null }, async (trial, on) => {
      trial.without = await this.#workspace.backend.without(answer, on);
    });
  }

  async stop(): Promise<void> {
    if (this.trial) this.trial.stopping = true;
    await this.#workspace.backend.stopTrial();
  }

  /** Ends what is being tried and puts its outcome away. */
  async close(): Promise<void> {
    const running = this.trial?.running;
    this.trial = null;
    this.found = [];
    if (running) await this.#workspace.backend.stopTrial();
  }

  // The picture ----------------------------------------------------------------------------

  /** Where the picture reads as the word. */
  async find(query: string): Promise<void> {
    const word = query.trim();
    const image = this.#workspace.current;
    if (word === "" || !image) return void (this.search = null);
    this.search = { query: word, busy: true, result: null, error: null };
    const search = this.search;
    try {
      search.result = await this.#workspace.backend.searchWord(
        this.#workspace.chat,
        image.id,
        word,
      );
    } catch (thrown) {
      search.error = asApiError(thrown);
    } finally {
      search.busy = false;
    }
  }

  /** Which words of the last answer depend on a spot. */
  async point(image: number, at: [number, number]): Promise<void> {
    const turn = this.subject;
    const answer = turn && this.#answer(turn);
    if (!turn || !answer) return;
    this.#workspace.letGo();
    this.search = null;
    this.box = null;
    this.spot = { turn: turn.id, busy: true, at, image, view: null };
    const spot = this.spot;
    try {
      const view = await this.#workspace.backend.spot(answer, image, at);
      spot.view = view;
    } catch (thrown) {
      if (this.spot === spot) this.spot = null;
      this.#workspace.tell(thrown);
    } finally {
      spot.busy = false;
    }
  }

  /** Takes off the picture what was searched, pointed at or drawn. True where there was any. */
  clear(): boolean {
    const any = this.search !== null || this.spot !== null || this.box !== null;
    this.search = this.spot = this.box = null;
    return any;
  }

  /** Forgets everything: another chat. */
  reset(): void {
    this.clear();
    void this.close();
  }

  // Inside ---------------------------------------------------------------------------------

  #turn(id: number): Turn | null {
    return this.#workspace.turns.find((turn) => turn.id === id) ?? null;
  }

  #answer(turn: Turn): AnswerRef | null {
    return turn.answer === null ? null : { chat: this.#workspace.chat, answer: turn.answer };
  }

  #replace(id: number, claim: ClaimView): void {
    const turn = this.#turn(id);
    if (!turn?.check) return;
    const claims = turn.check.claims.map((other) => (other.index === claim.index ? claim : other));
    turn.check = { ...turn.check, claims };
    const pinned = this.#workspace.pinned;
    if (pinned?.turn === id && pinned.claim?.index === claim.index)
      this.#workspace.pinned = this.#workspace.gazeAt(id, { claim });
  }

  async #try(
    start: Pick<Trial, "kind" | "turn" | "claim" | "region">,
    run: (trial: Trial, on: (event: TrialEvent) => void) => Promise<void>,
  ): Promise<void> {
    await this.close();
    this.trial = {
      ...start,
      running: true,
      stopping: false,
      done: 0,
      all: 0,
      secondsLeft: null,
      saying: "",
      cover: null,
      without: null,
      error: null,
    };
    const trial = this.trial;
    const mine = () => this.trial === trial;
    try {
      await run(trial, (event) => mine() && this.#hear(trial, event));
    } catch (thrown) {
      const error = asApiError(thrown);
      if (error.code !== "cancelled") trial.error = error;
      else if (mine()) this.trial = null;
    } finally {
      trial.running = false;
      this.found = [];
    }
  }

  #hear(trial: Trial, event: TrialEvent): void {
    if (event.type === "progress")
      [trial.done, trial.all, trial.secondsLeft] = [event.done, event.all, event.secondsLeft];
    else if (event.type === "saying") trial.saying = event.text;
    else this.found = event.words;
  }
}

/** The box that is covered for a claim. */
export function regionOf(claim: ClaimView): Region | null {
  return claim.evidence ? { image: claim.evidence.image, bbox: claim.evidence.bbox } : null;
}

/** The claims of a turn that may be marked. */
export function marksOf(turn: Turn): ClaimView[] {
  return turn.check ? marked(turn.check.claims) : [];
}
