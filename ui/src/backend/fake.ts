/**
 * A scripted application for looking at every state of the window in an ordinary browser and for
 * tests, by `?scene=`: empty, loading, model-failed, first, busy, full, failed, two, seen, model,
 * unmeasured, refused, and those of evidence and of the models' page. Not in the window.
 */
import { evidence, fakeEvidence, HEIGHT, WIDTH } from "./fake-evidence.ts";
import { fakeLibrary } from "./fake-library.ts";
import type { AskEvent, AskRequest, Backend, ImageRef, Start, Word } from "./index.ts";
import type {
  ApiError,
  FormatFigure,
  ModelCard,
  Quantization,
  QuantizationCard,
} from "./bindings";

export const CARD: ModelCard = {
  sight: {
    verdict: "sees",
    reason:
      "it told 8 of 8 names and colours of drawn things apart, " +
      "and noticed when 4 of 4 were taken away",
  },
  name: "nano",
  folder: "models/nano",
  quantization: "none",
  family: "SmolVLM",
  parameters: 9_400_000,
  contextTokens: 512,
  shipped: true,
  summary: "A very small model that knows drawn scenes of about seventy kinds of things.",
  abilities: [
    "Name one thing, or say whether it is there",
    "Tell colours and places",
    "Count up to five",
  ],
  limits: [
    "Understand photographs: it has seen drawings only",
    "Read more than a few large letters",
    "Speak anything but short English",
  ],
  examples: ["What is in the picture?", "Is there a tree?", "What colour is the car?"],
  evidence:
    "Its regions were trained against drawn truth: the shown region holds the named thing " +
    "in about six of ten answers.",
};

const figure = (value: number, n: number, lost?: number, holds = true): FormatFigure => ({
  value,
  n,
  loss: lost === undefined ? null : { lost, interval: [lost - 0.004, lost + 0.005], holds },
});

/** Measured: 8 bits lose nothing, 4 bits more of the evidence than they may. */
export const QUANTIZATION: QuantizationCard = {
  choosable: true,
  command: 'sightline eval quantization --model "models/nano"',
  measured: { date: "2026-01-31T12:00:00Z", scenes: 300, build: "0.1.0 (x86_64-linux)" },
  formats: [
    {
      quantization: "none",
      bytes: 32_400_000,
      perplexity: figure(1.141, 11_097),
      existence: figure(0.992, 628),
      evidence: figure(0.865, 2596),
      sameAnswer: figure(1, 2665),
    },
    {
      quantization: "q8_0",
      bytes: 9_200_000,
      perplexity: figure(1.141, 11_097, 0.0002),
      existence: figure(0.992, 628, 0),
      evidence: figure(0.867, 2596, -0.002),
      sameAnswer: figure(0.997, 2665, 0.003),
    },
    {
      quantization: "q4_0",
      bytes: 6_800_000,
      perplexity: figure(1.15, 11_097, 0.008),
      existence: figure(0.985, 628, 0.007),
      evidence: figure(0.81, 2599, 0.055, false),
      sameAnswer: figure(0.952, 2665, 0.048),
    },
  ],
};

/** The same model before anybody measured it. */
const UNMEASURED: QuantizationCard = {
  ...QUANTIZATION,
  measured: null,
  formats: QUANTIZATION.formats.map(({ quantization, bytes }) => ({
    quantization,
    bytes,
    perplexity: null,
    existence: null,
    evidence: null,
    sameAnswer: null,
  })),
};

const REFUSED: ApiError = {
  code: "model_weights",
  message: "models/nano/model.safetensors ends in the middle of its data",
  hint: "Download the model's weights again.",
};

export const FAILURE: ApiError = {
  code: "prompt_too_long",
  message: "the question and the picture take 612 tokens, and nano can hold 512",
  hint: "Start a new chat, or open a model with a longer context.",
};

const UNREADABLE: ApiError = {
  code: "image_unreadable",
  message: "holiday.jpg ends in the middle of its data",
  hint: "Copy it again from where it came from.",
};

const MODEL_FAILURE: ApiError = {
  code: "weights_missing_tensor",
  message: "models/nano/model.safetensors lacks `model.connector.modality_projection.proj.weight`",
  hint: "Fetch the folder again, or open another model folder.",
};

export const PICTURE = (id: number, example = true): ImageRef => ({
  id,
  name: example ? "example.png" : `garden ${id}.png`,
  width: WIDTH,
  height: HEIGHT,
  tiles: [{ bbox: [0, 0, WIDTH, HEIGHT], seen: [0, 0, 192, 192] }],
  example,
});

const SKIES = ["#bfe0f2", "#f6d9b8", "#d5d8f3"];

function drawing(id: number): string {
  const svg = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" ` +
      `viewBox="0 0 960 720">`,
    `<rect width="960" height="720" fill="${SKIES[id % SKIES.length]}"/>`,
    `<circle cx="166" cy="130" r="66" fill="#f7c948"/>`,
    `<path d="M0 470Q240 380 480 450T960 430V720H0z" fill="#8fbf7f"/>`,
    `<path d="M0 580Q300 540 960 590V720H0z" fill="#6f7782"/>`,
    `<path d="M420 380h166v176H420z" fill="#f3ece0"/>`,
    `<path d="M402 390l101-104 101 104z" fill="#a9573f"/>`,
    `<path d="M478 470h48v86h-48z" fill="#6b4a36"/>`,
    `<path d="M732 400h36v190h-36z" fill="#75513a"/>`,
    `<circle cx="750" cy="300" r="108" fill="#4d8a54"/>`,
    `<circle cx="700" cy="350" r="62" fill="#5a9a60"/>`,
    `<path d="M126 548q4-44 46-48l34-42q8-8 22-8h86q14 0 24 12l32 40q36 6 34 ` +
      `46v16H126z" fill="#c8372d"/>`,
    `<path d="M222 500l22-30h40v30zM296 500v-30h30l26 30z" fill="#dff1fa"/>`,
    `<circle cx="188" cy="570" r="34" fill="#24262b"/>`,
    `<circle cx="342" cy="570" r="34" fill="#24262b"/>`,
    `<circle cx="188" cy="570" r="14" fill="#c9ccd1"/>`,
    `<circle cx="342" cy="570" r="14" fill="#c9ccd1"/>`,
    `</svg>`,
  ].join("");
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

interface Said {
  text: string;
  rests?: [thing: string, score: number];
}

const ANSWER: Said[] = [
  { text: "A" },
  { text: " red", rests: ["car", 0.71] },
  { text: " car", rests: ["car", 0.84] },
  { text: " in" },
  { text: " front" },
  { text: " of" },
  { text: " a" },
  { text: " house", rests: ["house", 0.58] },
  { text: "," },
  { text: " a" },
  { text: " tree", rests: ["tree", 0.34] },
  { text: " and" },
  { text: " a" },
  { text: " dog" },
  { text: "." },
];

/** An answer as the application would send it, without the waiting. */
export function script(image = 0): AskEvent[] {
  const events: AskEvent[] = [
    { type: "started", imageTokens: 36, promptTokens: 58, reusedTokens: 0 },
  ];
  let text = "";
  let n = 0;
  ANSWER.forEach((said, index) => {
    const start = text.length + (said.text.startsWith(" ") ? 1 : 0);
    text += said.text;
    events.push({ type: "token", index, text: said.text, logprob: -0.2, evidence: null });
    if (said.text === "," || said.text === ".") return;
    const word: Word = {
      index: n++,
      firstToken: index,
      lastToken: index,
      text: said.text.trim(),
      start,
      end: text.length,
      evidence: said.rests ? evidence(said.rests[0], said.rests[1], image) : null,
      probability: said.rests ? said.rests[1] : null,
    };
    events.push({ type: "word", ...word });
  });
  events.push({
    type: "finished",
    answer: 0,
    text,
    tokens: ANSWER.length,
    cancelled: false,
    cut: false,
    timings: {
      loadMs: 80,
      encodeMs: 41,
      prefillMs: 63,
      firstTokenMs: 120,
      decodeTokensPerSecond: 148,
    },
  });
  return events;
}

export interface FakeBackend extends Backend {
  /** What was asked, for tests. */
  asked: AskRequest[];
  cancelled: number;
}

/** The application of one scene. */
export function fake(query: URLSearchParams, paceMs = 90): FakeBackend {
  const scene = query.get("scene") ?? "first";
  const images = scene === "empty" ? [] : [PICTURE(0)];
  if (scene === "two") images.push(PICTURE(1, false), PICTURE(2, false));
  const asked: AskRequest[] = [];
  let cancelled = 0;
  let measured = false;
  const never = () => new Promise<never>(() => {});
  const pause = () => new Promise((done) => setTimeout(done, paceMs));

  async function play(image: number, on: (event: AskEvent) => void): Promise<void> {
    const before = cancelled;
    await pause();
    if (scene === "failed") return on({ type: "failed", ...FAILURE });
    const events = script(image);
    for (const event of scene === "busy" ? events.slice(0, 11) : events) {
      if (event.type === "token") await pause();
      if (cancelled !== before) {
        const end = events.at(-1);
        if (end?.type === "finished") on({ ...end, text: "A red", cancelled: true });
        return;
      }
      on(event);
    }
    if (scene === "busy") await never();
  }

  const state = (): Start => ({
    version: "0.1.0",
    device: "CPU, 8 threads",
    model: { type: "loading", name: "nano" },
    images,
    chats: [{ id: 1, title: "", messages: [], busy: false }],
    install:
      "Download a SmolVLM or LLaVA folder from Hugging Face (config.json, tokenizer.json and " +
      "the safetensors files) and open it here, or put it into the models folder.",
    modelsFolder: "~/.local/share/sightline/models",
    notices: scene === "failed" ? [UNREADABLE] : [],
  });

  return {
    ...fakeLibrary(scene, pause),
    ...fakeEvidence(scene, pause),
    asked,
    get cancelled() {
      return cancelled;
    },
    state: async () => state(),
    loaded: async () => {
      if (scene === "loading") return never();
      if (scene === "model-failed") throw MODEL_FAILURE;
      return CARD;
    },
    models: async () => [
      { name: "nano", folder: CARD.folder, shipped: true, current: true, bytes: 2.1e7 },
    ],
    quantization: async () =>
      scene === "unmeasured" && !measured ? UNMEASURED : QUANTIZATION,
    setQuantization: async (quantization: Quantization) => {
      await pause();
      if (scene === "refused") throw REFUSED;
      return { ...CARD, quantization };
    },
    measureQuantization: async (on) => {
      const before = cancelled;
      for (let done = 1; done <= 9; done += 1) {
        await pause();
        if (cancelled !== before) throw { code: "cancelled", message: "it was stopped", hint: "" };
        on({ done: done * 100, all: 900 });
      }
      measured = true;
      return QUANTIZATION;
    },
    cancelMeasuring: async () => {
      cancelled += 1;
    },
    openModel: async () => CARD,
    pickModel: async () => null,
    pickImages: async () => {
      const image = PICTURE(images.length, images.length === 0);
      images.push(image);
      return { images: [image], errors: [] };
    },
    attach: async (file) => {
      if (!file.type.startsWith("image/")) {
        const message = `${file.name} is not a picture`;
        throw { code: "image_unreadable", message, hint: "Choose a PNG or JPEG." };
      }
      const image = { ...PICTURE(images.length, false), name: file.name };
      images.push(image);
      return image;
    },
    forgetImage: async () => {},
    newChat: async () => 2,
    ask: (request, on) => {
      asked.push(request);
      return play(request.images[0] ?? 0, on);
    },
    regenerate: (_, on) => play(0, on),
    cancel: async () => {
      cancelled += 1;
    },
    imageUrl: drawing,
    seenUrl: drawing,
    onDrop: async () => () => {},
  };
}

/** Plays what a user would do in the scene, so that a photograph shows it; `?do=` goes on from an
 * answer: claim, cover, test, without, search, spot, box, strike, numbers, marks. */
export async function act(query: URLSearchParams): Promise<void> {
  const scene = query.get("scene");
  const after = (ms: number) => new Promise((done) => setTimeout(done, ms));
  const press = (css: string, at = 0) => document.querySelectorAll<HTMLElement>(css)[at]?.click();
  const button = (text: string) =>
    [...document.querySelectorAll("button")].find((b) => b.textContent?.includes(text))?.click();
  await after(150);
  if (query.get("theme")) document.documentElement.dataset["theme"] = query.get("theme") ?? "";
  if (scene === "seen") press(".views button", 1);
  const page = scene === "get" || scene === "offline";
  const marks = query.get("do") === "marks";
  if (["model", "unmeasured"].includes(scene ?? "") || page || marks) press("[data-testid=model]");
  await after(100);
  if (page) press("[data-testid=tab-get]");
  if (marks) press("[data-testid=tab-marks]");
  const answering = "busy full failed two uncalibrated unsure-counts check-failed checking " +
    "trial-failed slow-trial";
  if (!answering.split(" ").includes(scene ?? "") || marks) return;
  press("[data-testid=suggestion]");
  const [word, act, claim] = [query.get("word"), query.get("do"), query.get("claim") ?? "0"];
  if (!word && !act) return;
  await after(Number(query.get("wait") ?? 2600));
  const words = [...document.querySelectorAll<HTMLElement>(".word, .claim")];
  words.find((other) => other.textContent === word)?.focus();
  if (["claim", "cover", "test", "without"].includes(act ?? "")) press(`[data-claim="${claim}"]`);
  await after(100);
  if (act === "cover") button("Cover this");
  if (act === "test") button("Test this");
  if (act === "without") button("Look without");
  if (act === "strike") button("Strike");
  if (act === "numbers") press("[data-testid=expert]");
  const surface = document.querySelector<HTMLElement>("[data-testid=surface]");
  const frame = surface?.getBoundingClientRect();
  const point = (type: string, x: number, y: number) =>
    surface?.dispatchEvent(
      new PointerEvent(type, {
        pointerId: 1,
        bubbles: true,
        clientX: frame!.left + x * frame!.width,
        clientY: frame!.top + y * frame!.height,
      }),
    );
  if (act === "spot") [point("pointerdown", 0.25, 0.72), point("pointerup", 0.25, 0.72)];
  if (act === "box" || act === "about") {
    point("pointerdown", 0.1, 0.55);
    point("pointermove", 0.46, 0.86);
    point("pointerup", 0.46, 0.86);
  }
  await after(50);
  if (act === "about") button("Ask about this");
  if (act === "search") {
    const field = document.querySelector<HTMLInputElement>("[data-testid=word-search]")!;
    field.value = query.get("find") ?? "wheel";
    field.dispatchEvent(new Event("input", { bubbles: true }));
    await after(20);
    field.form?.requestSubmit();
  }
}
