/**
 * The one seam between the page and the application: an interface, and which body it has here.
 * The window speaks over Tauri; a build in mode `fake` plays scripted scenes in any browser.
 */
import type {
  AnswerRef,
  AppState,
  AskEvent,
  AskRequest,
  CheckView,
  CoverRequest,
  CoverView,
  ExpertView,
  ExportFormat,
  ImageRef,
  LibraryChange,
  LibrarySettings,
  LibraryView,
  LongProgress,
  Look,
  MapRequest,
  ModelCard,
  ModelRef,
  Progress,
  Quantization,
  QuantizationCard,
  RawMap,
  Reliability,
  SpotView,
  TestView,
  Transfer,
  TrialEvent,
  Verified,
  WithoutView,
  WordSearch,
} from "./bindings";

export type * from "./bindings";

/** The bodies of the commands about evidence, a part of `Backend`. */
export type EvidenceBackend = Pick<
  Backend,
  | "check"
  | "cover"
  | "test"
  | "without"
  | "spot"
  | "stopTrial"
  | "searchWord"
  | "expert"
  | "rawMap"
  | "exportAnswer"
  | "reliability"
  | "calibrate"
  | "measureEvidence"
>;

/** What happened to each file of a batch: the picture, or why it could not be opened. */
export interface Attached {
  images: ImageRef[];
  errors: import("./bindings").ApiError[];
}

/** The state, and what went wrong with the pictures the window was started with. */
export type Start = AppState & { notices?: import("./bindings").ApiError[] };

export interface Backend {
  /** Everything that is needed to draw the window. */
  state(): Promise<Start>;
  /** Settles when the model is loaded (its card) or has failed to (an `ApiError`). */
  loaded(): Promise<ModelCard>;
  models(): Promise<ModelRef[]>;
  /** Loads another model; on failure the one before stays. */
  openModel(folder: string): Promise<ModelCard>;
  /** Lets the user choose a folder, or a GGUF file; null when they closed the dialog. */
  pickModel(kind: "folder" | "file"): Promise<ModelCard | null>;
  /** What holding the weights in fewer bits takes and costs, for the loaded model. */
  quantization(): Promise<QuantizationCard>;
  /** Loads the model again with its weights held so; on failure it stays as it was. */
  setQuantization(quantization: Quantization): Promise<ModelCard>;
  /** Measures what they cost, in minutes, beside the model that answers. */
  measureQuantization(on: (progress: Progress) => void): Promise<QuantizationCard>;
  cancelMeasuring(): Promise<void>;
  /** The models that can be got and those that are there, without asking any server. */
  library(): Promise<LibraryView>;
  /** Asks the server what a download would bring and need. */
  lookModel(name: string): Promise<Look>;
  /** Downloads a model, on from where it stopped; settles with what is to be opened. */
  pullModel(name: string, on: (transfer: Transfer) => void): Promise<string>;
  /** Stops what is being done with a model; what has arrived is kept. */
  stopModel(name: string): Promise<void>;
  verifyModel(
    name: string,
    repair: boolean,
    on: (transfer: Transfer) => void,
  ): Promise<Verified>;
  /** Removes a model or what has arrived of it; settles with the files that stayed. */
  removeModel(name: string): Promise<string[]>;
  /** Lets the user choose a model of their own; null when they closed the dialog. */
  pickImport(copy: boolean): Promise<string | null>;
  setLibrary(change: LibraryChange): Promise<LibrarySettings>;
  /** Lets the user choose where models are kept; null when they closed the dialog. */
  pickModelsFolder(): Promise<LibrarySettings | null>;
  /** Lets the user choose pictures in the system's dialog. */
  pickImages(): Promise<Attached>;
  /** A pasted or chosen file. */
  attach(file: File): Promise<ImageRef>;
  forgetImage(id: number): Promise<void>;
  newChat(): Promise<number>;
  ask(request: AskRequest, on: (event: AskEvent) => void): Promise<void>;
  regenerate(chat: number, on: (event: AskEvent) => void): Promise<void>;
  cancel(chat: number): Promise<void>;
  /** The claims of an answer, each with its state. */
  check(answer: AnswerRef): Promise<CheckView>;
  /** Covers a region and asks again, and so with a region of the same size elsewhere. */
  cover(request: CoverRequest, on: (event: TrialEvent) => void): Promise<CoverView>;
  /** The thorough test of one claim. */
  test(answer: AnswerRef, claim: number, on: (event: TrialEvent) => void): Promise<TestView>;
  /** Answers without the picture. */
  without(answer: AnswerRef, on: (event: TrialEvent) => void): Promise<WithoutView>;
  /** Which words depend on the spot, in px of the picture. */
  spot(answer: AnswerRef, image: number, at: [number, number]): Promise<SpotView>;
  /** Stops whatever is being tried on an answer. */
  stopTrial(): Promise<void>;
  /** Where the picture reads as a word. */
  searchWord(chat: number, image: number, query: string): Promise<WordSearch>;
  expert(answer: AnswerRef): Promise<ExpertView>;
  rawMap(request: MapRequest): Promise<RawMap>;
  /** Lets the user choose a file and writes the answer with its evidence; null when they closed
   * the dialog, else the file. */
  exportAnswer(answer: AnswerRef, format: ExportFormat): Promise<string | null>;
  /** How far the marks of the loaded model can be trusted. */
  reliability(): Promise<Reliability>;
  /** Finds out, in minutes, what its marks are worth, and turns them on. */
  calibrate(on: (progress: LongProgress) => void): Promise<Reliability>;
  /** Measures its evidence on drawn pictures, in minutes. */
  measureEvidence(on: (progress: LongProgress) => void): Promise<Reliability>;
  /** Address of the upright original. */
  imageUrl(id: number): string;
  /** Address of the exact pixels that the model receives. */
  seenUrl(id: number): string;
  /** Calls back while files hover over the window and when they are dropped; returns the undo. */
  onDrop(over: (inside: boolean) => void, done: (attached: Attached) => void): Promise<() => void>;
}

/** The body for this place. */
export async function connect(): Promise<Backend> {
  if (import.meta.env.MODE === "fake") {
    const { fake } = await import("./fake.ts");
    return fake(new URLSearchParams(location.search));
  }
  const { tauri } = await import("./tauri.ts");
  return tauri;
}
