/**
 * The raw numbers of an answer: which head looks where, log-probabilities, masses; and their
 * export. Knows no page.
 */
import type { ApiError, ExpertView, ExportFormat, RawMap } from "../../backend";
import { asApiError, type Turn, type Workspace } from "../../workspace.svelte.ts";

export class Numbers {
  open = $state(false);
  view = $state<ExpertView | null>(null);
  /** The number of the chosen word. */
  word = $state(0);
  /** Layer and head; the evidence heads together where null. */
  head = $state<[number, number] | null>(null);
  sinks = $state(false);
  map = $state<RawMap | null>(null);
  busy = $state(false);
  error = $state<ApiError | null>(null);
  /** Where the last export went. */
  saved = $state<string | null>(null);
  #workspace: Workspace;
  #turn: number | null = null;
  #wanted = 0;

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
  }

  /** The answer whose numbers are shown. */
  readonly turn = $derived.by((): Turn | null => this.#workspace.inspection.subject);

  toggle(): void {
    this.open = !this.open;
    if (!this.open) this.map = null;
  }

  /** Reads the numbers of the answer that is looked at now, unless they are there already. */
  async read(): Promise<void> {
    const turn = this.turn;
    if (!turn || turn.answer === null) return;
    if (turn.id !== this.#turn) [this.view, this.map, this.saved] = [null, null, null];
    this.#turn = turn.id;
    await this.#trying(async () => {
      this.view = await this.#workspace.backend.expert(this.#ref(turn));
      await this.choose({ word: this.#looked(turn) });
    });
  }

  /** Shows the map of another word or head, or with what attracts attention anyway. */
  async choose(change: Partial<Pick<Numbers, "word" | "head" | "sinks">>): Promise<void> {
    Object.assign(this, change);
    const turn = this.turn;
    if (!turn || turn.answer === null || !this.view) return;
    const wanted = ++this.#wanted;
    await this.#trying(async () => {
      const map = await this.#workspace.backend.rawMap({
        answer: this.#ref(turn),
        word: this.word,
        head: this.head,
        sinks: this.sinks,
      });
      // Of several choices made meanwhile the last one counts.
      if (wanted === this.#wanted && this.open) this.map = map;
    });
  }

  async export(format: ExportFormat): Promise<void> {
    const turn = this.turn;
    if (!turn || turn.answer === null) return;
    this.saved = null;
    await this.#trying(async () => {
      this.saved = await this.#workspace.backend.exportAnswer(this.#ref(turn), format);
    });
  }

  /** The word that is looked at, else the first that rests on something. */
  #looked(turn: Turn): number {
    const { gaze } = this.#workspace;
    const claim = gaze?.turn === turn.id ? gaze.claim : null;
    const inside = turn.words.filter(
      (w) => !claim || (w.start >= claim.start && w.end <= claim.end),
    );
    const found = gaze?.turn === turn.id ? gaze.word : null;
    return (found ?? inside.find((word) => word.evidence) ?? inside[0])?.index ?? 0;
  }

  #ref(turn: Turn) {
    return { chat: this.#workspace.chat, answer: turn.answer ?? 0 };
  }

  async #trying(action: () => Promise<void>): Promise<void> {
    this.busy = true;
    try {
      await action();
      this.error = null;
    } catch (thrown) {
      this.error = asApiError(thrown);
    } finally {
      this.busy = false;
    }
  }
}

/** A number of nats with two digits. */
export function nats(value: number): string {
  return value.toFixed(2).replace("-", "−");
}
