/**
 * What holding the weights in fewer bits takes and costs: the card of the loaded model, and a
 * measurement of it. Knows no page.
 */
import type {
  ApiError,
  FormatFigure,
  Progress,
  Quantization,
  QuantizationCard,
} from "../../backend";
import { asApiError, type Workspace } from "../../workspace.svelte.ts";

/** What people call the formats. */
export const NAMES: Record<Quantization, string> = {
  none: "As trained",
  q8_0: "8 bits",
  q4_0: "4 bits",
};

export class Quantizing {
  card = $state<QuantizationCard | null>(null);
  /** The card or a measurement failed. */
  error = $state<ApiError | null>(null);
  /** How far the running measurement is. */
  progress = $state<Progress | null>(null);
  /** The format that is being loaded. */
  wanted = $state<Quantization | null>(null);
  #workspace: Workspace;
  #folder: string | undefined;

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
  }

  /** Reads the card of the model that is loaded now. */
  async read(): Promise<void> {
    const folder = this.#workspace.card?.folder;
    if (folder !== this.#folder) this.card = null;
    this.#folder = folder;
    await this.#trying(() => this.#workspace.backend.quantization());
  }

  /** Loads the model in this format; of several choices made meanwhile the last one counts. */
  async choose(quantization: Quantization): Promise<void> {
    const choosing = this.wanted !== null;
    this.wanted = quantization;
    if (choosing) return;
    while (this.wanted !== this.#workspace.card?.quantization) {
      const next: Quantization = this.wanted;
      const loaded = await this.#workspace.setQuantization(next);
      if (!loaded && this.wanted === next) break;
    }
    this.wanted = null;
  }

  async measure(): Promise<void> {
    this.progress = { done: 0, all: 0 };
    await this.#trying(() =>
      this.#workspace.backend.measureQuantization((progress) => (this.progress = progress)),
    );
    this.progress = null;
  }

  async stop(): Promise<void> {
    await this.#workspace.backend.cancelMeasuring();
  }

  async #trying(card: () => Promise<QuantizationCard>): Promise<void> {
    try {
      this.card = await card();
      this.error = null;
    } catch (thrown) {
      const error = asApiError(thrown);
      // Stopping is what the user wanted.
      this.error = error.code === "cancelled" ? null : error;
    }
  }
}

/** "32 MB", "1.2 GB" */
export function size(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes >= 1e7 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** A perplexity, a share of right ones, or the share of answers that stayed the same. */
export type Kind = "perplexity" | "share" | "same";

/** "1.141" for a perplexity, "99.2 %" for the others. */
export function value(figure: FormatFigure, kind: Kind): string {
  if (kind === "perplexity") return figure.value.toFixed(figure.value < 100 ? 3 : 0);
  return `${(100 * figure.value).toFixed(1)} %`;
}

/** What was lost, in words: "no loss", "0.3 points lost", "0.1 % worse", "2.0 % differ". */
export function loss({ loss }: FormatFigure, kind: Kind): string {
  if (!loss) return "";
  const tenths = Math.round(1000 * loss.lost) / 10;
  if (tenths === 0) return kind === "same" ? "none differs" : "no loss";
  const amount = Math.abs(tenths).toFixed(1);
  if (kind === "same") return `${amount} % differ`;
  if (kind === "perplexity") return `${amount} % ${tenths > 0 ? "worse" : "better"}`;
  return `${amount} points ${tenths > 0 ? "lost" : "better"}`;
}

/** Sample and interval of a loss. */
export function surety({ loss, n }: FormatFigure, kind: Kind): string {
  const count = `${n.toLocaleString("en")} judged`;
  if (!loss) return count;
  const [low, high] = loss.interval.map((end) => (100 * end).toFixed(1).replace("-0.0", "0.0"));
  const unit = kind === "share" ? "points" : "%";
  return `${count}; loss ${low} to ${high} ${unit} (95 % interval)`;
}

/** "25 November 2026" of a UTC time. */
export function day(date: string): string {
  const options = { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" } as const;
  const parsed = new Date(date);
  return Number.isNaN(parsed.getTime()) ? date : parsed.toLocaleDateString("en-GB", options);
}
