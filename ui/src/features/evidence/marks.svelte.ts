/**
 * How far the marks of the loaded model can be trusted: what was measured, a calibration that
 * turns them on, and a measurement of the whole table. Knows no page.
 */
import type { ApiError, LongProgress, Reliability } from "../../backend";
import { asApiError, type Workspace } from "../../workspace.svelte.ts";

export class Marks {
  reliability = $state<Reliability | null>(null);
  error = $state<ApiError | null>(null);
  /** What is running, and how far it is. */
  running = $state<"calibrate" | "measure" | null>(null);
  progress = $state<LongProgress | null>(null);
  #workspace: Workspace;

  /** Marks are shown. */
  readonly on = $derived(this.reliability?.calibrated === true);
  /** The model has to be calibrated before there can be any. */
  readonly off = $derived(this.reliability?.calibrated === false);

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
  }

  /** Reads what is known of the model that is loaded now. */
  async read(): Promise<void> {
    await this.#trying(() => this.#workspace.backend.reliability());
  }

  /** Finds out what the marks are worth; the last answer gets its own at once. */
  async calibrate(): Promise<void> {
    await this.#long("calibrate", (on) => this.#workspace.backend.calibrate(on));
    const last = this.#workspace.turns.at(-1);
    if (this.on && last?.answer != null) await this.#workspace.inspection.check(last.id);
  }

  async measure(): Promise<void> {
    await this.#long("measure", (on) => this.#workspace.backend.measureEvidence(on));
  }

  async stop(): Promise<void> {
    await this.#workspace.backend.cancelMeasuring();
  }

  async #long(
    what: "calibrate" | "measure",
    run: (on: (progress: LongProgress) => void) => Promise<Reliability>,
  ): Promise<void> {
    if (this.running) return;
    this.running = what;
    this.progress = null;
    await this.#trying(() => run((progress) => (this.progress = progress)));
    this.running = null;
  }

  async #trying(reliability: () => Promise<Reliability>): Promise<void> {
    try {
      this.reliability = await reliability();
      this.error = null;
    } catch (thrown) {
      const error = asApiError(thrown);
      // Stopping is what the user wanted.
      this.error = error.code === "cancelled" ? null : error;
    }
  }
}

/** "about 4 minutes", "less than a minute" */
export function minutes(count: number): string {
  if (count < 1) return "less than a minute";
  const whole = Math.round(count);
  return `about ${whole} ${whole === 1 ? "minute" : "minutes"}`;
}

/** "2 min left", "9 s left"; nothing where it is not known. */
export function timeLeft(seconds: number | null): string {
  if (seconds === null) return "";
  const rounded = Math.max(1, Math.ceil(seconds));
  return rounded >= 90 ? `${Math.round(rounded / 60)} min left` : `${rounded} s left`;
}
