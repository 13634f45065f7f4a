/**
 * The models that can be got and those that are there: what is known of each, what is being done
 * with it, and what went wrong. Knows no page.
 */
import type {
  ApiError,
  LibraryChange,
  LibraryModel,
  LibraryView,
  Look,
  Transfer,
  Verified,
} from "../../backend";
import { asApiError, type Workspace } from "../../workspace.svelte.ts";
import { size } from "./quantization.svelte.ts";

/** Something that is only done when it is said twice. */
export type Question = "remove" | "discard" | "too big";

export class Library {
  view = $state<LibraryView | null>(null);
  /** The page itself, an import or a setting failed. */
  error = $state<ApiError | null>(null);
  search = $state("");
  /** What is being done with a model, by its name. */
  jobs = $state<Record<string, Transfer>>({});
  /** Why the last thing done with a model failed. */
  failures = $state<Record<string, ApiError>>({});
  looks = $state<Record<string, Look>>({});
  verified = $state<Record<string, Verified>>({});
  questions = $state<Record<string, Question>>({});
  importing = $state(false);
  /** What has just ended, for those who do not see it. */
  spoken = $state("");
  #workspace: Workspace;
  #again: ReturnType<typeof setTimeout> | undefined;

  readonly shown = $derived.by(() => {
    const words = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (model: LibraryModel) =>
      [model.name, model.repo ?? "", model.family, ...model.goodAt].join(" ").toLowerCase();
    const all = (this.view?.models ?? []).filter((model) => {
      const within = text(model);
      return words.every((word) => within.includes(word));
    });
    // What is there or under way comes first; the order among the others is the catalogue's.
    return [...all].sort((a, b) => Number(isOffer(a)) - Number(isOffer(b)));
  });
  /** A repository that is searched for by its whole name and not in the list. */
  readonly repository = $derived.by(() => {
    const wanted = this.search.trim();
    const known = (this.view?.models ?? []).some((model) => model.repo === wanted);
    return /^[\w.-]+\/[\w.-]+(@\S+)?$/.test(wanted) && !known ? wanted : null;
  });

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
  }

  async read(): Promise<void> {
    clearTimeout(this.#again);
    await this.#trying(async () => {
      this.view = await this.#workspace.backend.library();
    });
    const elsewhere = this.view?.models.some(
      (model) => model.state.type === "busy" && !this.jobs[model.name],
    );
    if (elsewhere) this.#again = setTimeout(() => void this.read(), 1000);
  }

  close(): void {
    clearTimeout(this.#again);
  }

  /** Asks what it would need, and fetches it unless that is more than there is. */
  async download(name: string, sure = false): Promise<void> {
    await this.#job(name, async (on) => {
      const look = await this.#workspace.backend.lookModel(name);
      this.looks[look.name] = look;
      if (look.fit.verdict === "tooBig" && !sure) {
        this.questions[name] = "too big";
        return;
      }
      await this.#workspace.backend.pullModel(name, on);
      if (this.search.trim() === name) this.search = look.name;
      this.spoken = `${look.name} is downloaded`;
    });
  }

  /** What has arrived is kept. */
  async pause(name: string): Promise<void> {
    await this.#workspace.backend.stopModel(name);
  }

  async verify(name: string, repair = false): Promise<void> {
    delete this.verified[name];
    await this.#job(name, async (on) => {
      const found = await this.#workspace.backend.verifyModel(name, repair, on);
      this.verified[name] = found;
      this.spoken = says(found);
    });
  }

  /** Removes a model, or what has arrived of it. */
  async remove(name: string): Promise<void> {
    delete this.verified[name];
    const running = this.jobs[name] !== undefined;
    if (running) await this.#stopped(name);
    await this.#job(name, async () => {
      await this.#workspace.backend.removeModel(name);
      this.spoken = `${name} is removed`;
    });
  }

  async import(copy: boolean): Promise<void> {
    this.importing = true;
    await this.#trying(async () => {
      const name = await this.#workspace.backend.pickImport(copy);
      if (name) this.spoken = `${name} is imported`;
    });
    this.importing = false;
    if (!this.error) await this.read();
  }

  /** Changes how models are got; true when it was taken. */
  async change(change: LibraryChange): Promise<boolean> {
    await this.#trying(async () => {
      await this.#workspace.backend.setLibrary(change);
    });
    const taken = this.error === null;
    if (taken) await this.read();
    return taken;
  }

  async pickFolder(): Promise<void> {
    await this.#trying(async () => {
      await this.#workspace.backend.pickModelsFolder();
    });
    if (!this.error) await this.read();
  }

  ask(name: string, question: Question | null): void {
    if (question) this.questions[name] = question;
    else delete this.questions[name];
  }

  forgive(name: string): void {
    delete this.failures[name];
  }

  async #job(name: string, work: (on: (transfer: Transfer) => void) => Promise<void>) {
    if (this.jobs[name]) return;
    this.ask(name, null);
    this.forgive(name);
    this.jobs[name] = ASKING;
    try {
      await work((transfer) => {
        if (this.jobs[name]) this.jobs[name] = transfer;
      });
    } catch (thrown) {
      const error = asApiError(thrown);
      // Stopping is what the user wanted.
      if (error.code !== "cancelled") this.failures[name] = error;
    }
    delete this.jobs[name];
    await this.read();
  }

  /** Stops what is done with a model and waits until it has stopped. */
  async #stopped(name: string): Promise<void> {
    await this.#workspace.backend.stopModel(name);
    for (let tries = 0; this.jobs[name] && tries < 200; tries += 1)
      await new Promise((done) => setTimeout(done, 25));
  }

  async #trying(action: () => Promise<void>): Promise<void> {
    try {
      await action();
      this.error = null;
    } catch (thrown) {
      this.error = asApiError(thrown);
    }
  }
}

const ASKING: Transfer = {
  phase: "asking",
  file: "",
  done: 0,
  all: 0,
  bytesPerSecond: 0,
  secondsLeft: null,
};

function isOffer(model: LibraryModel): boolean {
  return model.state.type === "available";
}

/** "507 million weights", "2.3 billion weights" */
export function weights(n: number): string {
  if (n >= 1e9) return `${(n / 1e9).toFixed(1)} billion weights`;
  return `${n >= 1e7 ? Math.round(n / 1e6) : (n / 1e6).toFixed(1)} million weights`;
}

/** "12 s", "3 min", "1 h 20 min" */
export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** What is going on, in words. */
export function progress(transfer: Transfer): string {
  const of = `${size(transfer.done)} of ${size(transfer.all)}`;
  switch (transfer.phase) {
    case "asking":
      return "Asking the server";
    case "waiting":
      return `${of} · waiting for the network`;
    case "verifying":
      return `Checking ${transfer.file}`;
    case "copying":
      return `Copying · ${of}`;
    case "downloading": {
      const speed = transfer.bytesPerSecond > 0 ? ` · ${size(transfer.bytesPerSecond)}/s` : "";
      const left = transfer.secondsLeft;
      return `${of}${speed}${left === null ? "" : ` · ${duration(left)} left`}`;
    }
  }
}

/** What a verification found, in words. */
export function says({ nFiles, broken, repaired }: Verified): string {
  if (broken.length === 0) return `All ${nFiles} files are whole`;
  const names = broken.map((file) => `${file.path} ${file.what}`).join("; ");
  return repaired ? `Mended: ${names}` : `Damaged: ${names}`;
}
