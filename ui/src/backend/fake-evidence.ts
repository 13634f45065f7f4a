/**
 * The evidence of the scripted application: regions of its drawing, claims in every state, every
 * trial with its outcome, the raw numbers and how reliable the marks are. By `?scene=`:
 * uncalibrated, unsure-counts (marks of counts do not beat chance), check-failed, trial-failed,
 * slow-trial. Not in the window.
 */
import type { EvidenceBackend } from "./index.ts";
import type {
  ApiError,
  CheckView,
  ClaimKind,
  ClaimState,
  ClaimView,
  CoverView,
  EvidenceFigure,
  EvidenceView,
  LongProgress,
  MarkReliability,
  RawMap,
  Reliability,
} from "./bindings";

export const WIDTH = 960;
export const HEIGHT = 720;
/** What is said about the drawing. */
export const TEXT = "A red car in front of a house, a tree and a dog.";
const CLEANED = "A red car in front of a house and a tree.";

type Box = [number, number, number, number];
type Ring = [number, number][];

const THINGS: Record<string, { box: Box; place: string; ring: Ring }> = {
  car: {
    box: [120, 452, 408, 606],
    place: "bottom left",
    ring: [
      [180, 420],
      [360, 420],
      [360, 480],
      [420, 480],
      [420, 600],
      [120, 600],
      [120, 480],
      [180, 480],
    ],
  },
  tree: {
    box: [640, 180, 860, 590],
    place: "right",
    ring: [
      [660, 240],
      [720, 240],
      [720, 180],
      [780, 180],
      [780, 240],
      [840, 240],
      [840, 420],
      [780, 420],
      [780, 600],
      [720, 600],
      [720, 420],
      [660, 420],
    ],
  },
  sun: {
    box: [96, 60, 236, 200],
    place: "top left",
    ring: [
      [120, 60],
      [240, 60],
      [240, 180],
      [120, 180],
    ],
  },
  house: {
    box: [402, 282, 604, 560],
    place: "in the middle",
    ring: [
      [480, 300],
      [540, 300],
      [540, 360],
      [600, 360],
      [600, 540],
      [420, 540],
      [420, 360],
      [480, 360],
    ],
  },
};
const WHOLE = {
  box: [0, 0, WIDTH, HEIGHT] as Box,
  place: "almost the whole picture",
  ring: [] as Ring,
};

/** Of a closed ring, as a share of the picture. */
function area(ring: Ring): number {
  const twice = ring.reduce((sum, [x, y], index) => {
    const [nextX, nextY] = ring[(index + 1) % ring.length]!;
    return sum + x * nextY - nextX * y;
  }, 0);
  return Math.abs(twice) / 2 / (WIDTH * HEIGHT);
}

/** A region with most of its map inside the box of a thing. */
export function evidence(thing: string, score: number, image = 0): EvidenceView {
  const { box, place, ring } = THINGS[thing] ?? WHOLE;
  const [rows, cols] = [12, 16];
  const values: number[] = [];
  for (let cell = 0; cell < rows * cols; cell += 1) {
    const x = ((cell % cols) + 0.5) * (WIDTH / cols);
    const y = (Math.floor(cell / cols) + 0.5) * (HEIGHT / rows);
    const dx = Math.max(box[0] - x, 0, x - box[2]) / WIDTH;
    const dy = Math.max(box[1] - y, 0, y - box[3]) / HEIGHT;
    values.push(Math.exp(-((dx * dx + dy * dy) * 400)));
  }
  const sum = values.reduce((a, b) => a + b, 0);
  const share = area(ring);
  return {
    image,
    bbox: box,
    outline: [ring],
    area: share,
    score,
    words: `${place}, ${Math.round(100 * share)} % of the picture`,
    heatmap: { rows, cols, values: values.map((v) => v / sum), source: [0, 0, WIDTH, HEIGHT] },
  };
}

interface Told {
  kind: ClaimKind;
  said: string;
  state: ClaimState;
  probability: number;
  with: number;
  without: number;
  thing?: string;
}

const TOLD: Told[] = [
  {
    kind: "object",
    said: "A red car",
    state: "seen",
    probability: 0.97,
    with: 0.91,
    without: 0.06,
    thing: "car",
  },
  {
    kind: "relation",
    said: "in front of",
    state: "guessed",
    probability: 0.58,
    with: 0.55,
    without: 0.49,
    thing: "house",
  },
  {
    kind: "object",
    said: "a house",
    state: "seen",
    probability: 0.94,
    with: 0.83,
    without: 0.21,
    thing: "house",
  },
  {
    kind: "object",
    said: "a tree",
    state: "guessed",
    probability: 0.62,
    with: 0.52,
    without: 0.47,
    thing: "tree",
  },
  {
    kind: "object",
    said: "a dog",
    state: "unsupported",
    probability: 0.08,
    with: 0.31,
    without: 0.33,
  },
];

function claim(told: Told, index: number, image: number): ClaimView {
  const start = TEXT.indexOf(told.said);
  const found = told.thing ? evidence(told.thing, told.probability, image) : null;
  const sure = `${Math.round(100 * told.probability)} % sure`;
  return {
    index,
    kind: told.kind,
    text: told.said,
    start,
    end: start + told.said.length,
    struck: told.state === "unsupported" ? [start, start + told.said.length] : null,
    state: told.state,
    probability: told.probability,
    with: told.with,
    without: told.without,
    trusted: true,
    evidence: found,
    words: found ? `rests on: ${found.words}; ${sure}` : `no region found; ${sure}`,
    tested: null,
  };
}

export const CHECK = (image = 0): CheckView => ({
  claims: TOLD.map((told, index) => claim(told, index, image)),
  cleaned: CLEANED,
  ms: 38,
});

const region = (bbox: Box, image = 0) => ({ image, bbox });

/** The outcome of covering the car: it changes with it, and with nothing else. */
export const COVERED: CoverView = {
  region: region([120, 420, 420, 600]),
  control: region([600, 60, 900, 240]),
  before: { text: TEXT, probability: 0.91 },
  covered: { text: "A house, a tree and a dog.", probability: 0.04 },
  elsewhere: { text: TEXT, probability: 0.9 },
  holds: true,
  words:
    "“A red car” goes from 91 % to 4 % when its region is covered, and stays at 90 % when a " +
    "region of the same size elsewhere is.",
};

const UNMOVED: CoverView = {
  ...COVERED,
  region: region([660, 180, 840, 600]),
  control: region([60, 60, 240, 480]),
  before: { text: TEXT, probability: 0.52 },
  covered: { text: TEXT, probability: 0.49 },
  elsewhere: { text: TEXT, probability: 0.51 },
  holds: false,
  words: "“a tree” stays at 49 % when its region is covered: it does not rest on it.",
};

const FAILED: ApiError = {
  code: "model_unsupported",
  message: "the claims of this answer could not be checked: the model says neither yes nor no",
  hint: "Open another model, or look at the picture yourself.",
};

const mark = (
  state: ClaimState,
  kind: ClaimKind | null,
  n: number,
  wrong: number,
  beatsChance = true,
): MarkReliability => ({
  state,
  kind,
  n,
  wrong,
  beatsChance,
  words:
    wrong < 0.1
      ? `Words marked like this were wrong ${Math.round(100 * wrong)} times in 100, of ${n} tested.`
      : `Words marked like this were wrong ${Math.round(10 * wrong)} times in 10, of ${n} tested.`,
});

const figure = (
  name: string,
  title: string,
  value: number,
  baseline: number | null,
  demand: number,
  holds = true,
): EvidenceFigure => ({
  name,
  title,
  value,
  n: 2412,
  interval: [value - 0.012, value + 0.011],
  baseline,
  demand,
  holds,
});

const MARKS: MarkReliability[] = [
  mark("seen", null, 2318, 0.03),
  mark("guessed", null, 804, 0.36),
  mark("unsupported", null, 412, 0.81),
  mark("seen", "object", 1640, 0.02),
  mark("guessed", "object", 410, 0.33),
  mark("unsupported", "object", 298, 0.86),
  mark("seen", "count", 212, 0.12),
  mark("guessed", "count", 180, 0.41),
  mark("unsupported", "count", 61, 0.7),
];

const FIGURES: EvidenceFigure[] = [
  figure("pointing_tier0", "The strongest point lies on the named thing", 0.931, 0.06, 0.9),
  figure("box_acc50", "The box overlaps the thing by half", 0.824, 0.02, 0.8),
  figure("flip_tier2", "The answer changes when the region is removed", 0.688, 0.08, 0.65),
  figure("stratified_auroc_tier1", "True and false claims are told apart", 0.942, 0.58, 0.93),
  figure("ece_in_distribution", "Stated and true probability differ by", 0.034, null, 0.03, false),
];

const MEASURED = { date: "2026-11-27T12:00:00Z", scenes: 5000, build: "0.1.0 (x86_64-linux)" };

const CALIBRATED: Reliability = {
  calibrated: true,
  maps: true,
  minutes: 4,
  marks: MARKS,
  figures: [],
  measured: null,
  command: 'sightline eval evidence --model "models/nano"',
};

function rawMap(word: number, head: [number, number] | null, sinks: boolean): RawMap {
  const things = ["car", "car", "house", "tree", "sun"];
  const spread = evidence(things[(word + (head ? head[0] + head[1] : 0)) % things.length]!, 0.5);
  const values = spread.heatmap.values.map((v) => 0.62 * v);
  if (sinks) values[values.length - 1] = 0.21;
  const imageMass = Array.from(
    { length: 48 },
    (_, i) => 0.04 + 0.7 * ((i * 37) % 48 === 5 ? 1 : ((i * 29) % 48) / 90),
  );
  return {
    image: 0,
    heatmap: { ...spread.heatmap, values },
    imageMass,
    sinks: 3,
    words: `${spread.words.split(",")[0]} most; 62 % of the attention is on the picture`,
  };
}

/** The commands about evidence of one scene. */
export function fakeEvidence(scene: string, pause: () => Promise<unknown>): EvidenceBackend {
  let calibrated = scene !== "uncalibrated";
  let measured = false;
  let stopped = 0;
  const never = () => new Promise<never>(() => {});

  /** Goes through `n` steps unless it is stopped; then it is over as the application says it. */
  async function steps(n: number, each: (step: number) => void): Promise<void> {
    const before = stopped;
    if (scene === "trial-failed")
      throw { ...FAILED, message: "there is no memory left for the test" };
    for (let step = 1; step <= n; step += 1) {
      await pause();
      if (stopped !== before) throw { code: "cancelled", message: "it was stopped", hint: "" };
      each(step);
      if (scene === "slow-trial" && step * 2 > n) {
        while (stopped === before) await new Promise((done) => setTimeout(done, 5));
      }
    }
  }

  async function long(step: string, on: (progress: LongProgress) => void): Promise<void> {
    await steps(12, (done) =>
      on({ step, done: done * 40, all: 480, secondsLeft: 240 - done * 20 }),
    );
  }

  const reliability = (): Reliability => ({
    ...CALIBRATED,
    calibrated,
    marks: calibrated
      ? MARKS.map((m) => ({
          ...m,
          beatsChance: !(scene === "unsure-counts" && m.kind === "count"),
        }))
      : [],
    figures: measured || scene === "full" ? FIGURES : [],
    measured: measured || scene === "full" ? MEASURED : null,
  });

  return {
    check: async () => {
      await pause();
      if (scene === "check-failed") throw FAILED;
      if (scene === "checking") return never();
      const view = CHECK(scene === "two" ? 1 : 0);
      if (scene === "unsure-counts") view.claims[1] = { ...view.claims[1]!, trusted: false };
      return view;
    },
    cover: async (request) => {
      const outcome = request.claim === 3 ? UNMOVED : COVERED;
      await steps(6, () => {});
      return { ...outcome, region: request.region };
    },
    test: async (_, index, on) => {
      await steps(16, (done) => {
        on({ type: "progress", done, all: 16, secondsLeft: done < 3 ? null : (16 - done) * 0.7 });
        if (done === 8)
          on({ type: "regions", words: [{ word: 2, evidence: evidence("car", 0.7) }] });
      });
      const outcome = index === 3 ? UNMOVED : COVERED;
      return { claim: { ...CHECK().claims[index]!, tested: outcome }, words: [] };
    },
    without: async (_, on) => {
      const words = "A house and a tree.".split(" ");
      await steps(words.length, (n) =>
        on({ type: "saying", text: words.slice(0, n).join(" ") }),
      );
      return {
        text: words.join(" "),
        words: [
          { word: 1, text: "red", with: 0.88, without: 0.07 },
          { word: 2, text: "car", with: 0.94, without: 0.11 },
          { word: 7, text: "house", with: 0.83, without: 0.21 },
          { word: 9, text: "tree", with: 0.52, without: 0.47 },
          { word: 12, text: "dog", with: 0.31, without: 0.33 },
        ],
        summary:
          "“red” and “car” need the picture; “tree” and “dog” are said as readily without it.",
      };
    },
    spot: async (_, image, [x, y]) => {
      await pause();
      const onCar = x > 100 && x < 430 && y > 400;
      return {
        region: region([x - 60, y - 60, x + 60, y + 60], image),
        words: [
          { word: 1, text: "red", weight: onCar ? 0.46 : 0 },
          { word: 2, text: "car", weight: onCar ? 0.81 : 0.02 },
          { word: 7, text: "house", weight: 0.05 },
          { word: 9, text: "tree", weight: onCar ? 0 : 0.01 },
          { word: 12, text: "dog", weight: onCar ? 0.12 : 0.01 },
        ],
        summary: onCar
          ? "Without this spot “car” loses 81 % and “red” 46 % of its probability."
          : "No word depends on this spot.",
      };
    },
    stopTrial: async () => {
      stopped += 1;
    },
    searchWord: async (_, image, query) => {
      await pause();
      const thing = { wheel: "car", auto: "car", roof: "house", leaf: "tree", sun: "sun" }[query];
      if (!thing)
        return { query, evidence: null, words: `No part of the picture reads as “${query}”` };
      const found = evidence(thing, 0.71, image);
      return { query, evidence: found, words: `“${query}” is read at: ${found.words}` };
    },
    expert: async () => ({
      layers: [2, 3, 4, 5, 6, 7, 8, 9],
      heads: 6,
      chosen: [
        [4, 1],
        [4, 3],
        [5, 0],
        [5, 2],
      ],
      words: TEXT.replace(/[.,]/g, "")
        .split(" ")
        .map((text, word) => ({
          word,
          text,
          logprob: -0.05 - ((word * 13) % 17) / 12,
          logprobWithout: -0.3 - ((word * 7) % 11) / 3,
          entropy: 0.1 + ((word * 5) % 9) / 7,
          imageMass: [1, 2, 7, 9, 12].includes(word) ? 0.62 - word / 40 : 0.06,
          nullMass: [1, 2, 7, 9, 12].includes(word) ? 0.2 : 0.88,
        })),
    }),
    rawMap: async (request) => rawMap(request.word, request.head, request.sinks),
    exportAnswer: async (_, format) => `~/Documents/answer.${format}`,
    reliability: async () => reliability(),
    calibrate: async (on) => {
      await long("Asking about drawn pictures", on);
      calibrated = true;
      return reliability();
    },
    measureEvidence: async (on) => {
      await long("Covering regions and asking again", on);
      measured = true;
      return reliability();
    },
  };
}
