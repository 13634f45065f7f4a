/**
 * The models' page of the scripted application, by `?scene=`: get (every state at once), offline,
 * full-disk, refused-model. Not in the window.
 */
import type {
  ApiError,
  Fit,
  LibraryModel,
  LibrarySettings,
  LibraryView,
  Look,
  Transfer,
  Verified,
} from "./bindings";
import type { Backend } from "./index.ts";

const GB = 1e9;
const FOLDER = "~/.local/share/sightline/models";

const fit = (needs: number, free = 14 * GB, exact = false): Fit => ({
  needs,
  free,
  verdict: needs > free ? "tooBig" : needs > 0.8 * free ? "tight" : "fits",
  quantization: "none",
  exact,
  imageTokens: exact ? 1088 : null,
  words:
    `needs ${exact ? "" : "about "}${(needs / GB).toFixed(1)} GB of memory with a 512-px ` +
    `picture; this machine has ${(free / GB).toFixed(0)} GB free`,
});

const model = (name: string, over: Partial<LibraryModel>): LibraryModel => ({
  name,
  repo: `owner/${name}`,
  family: "SmolVLM",
  parameters: 5.07e8,
  licence: "apache-2.0",
  gated: false,
  goodAt: ["Descriptions and questions about photos", "Reading short texts"],
  bytes: null,
  supported: true,
  answers: true,
  fit: fit(2.2 * GB),
  state: { type: "available" },
  ...over,
});

/** One model in each state. */
const MODELS = (): LibraryModel[] => [
  model("SmolVLM-256M-Instruct", {
    parameters: 2.56e8,
    bytes: 5.2e8,
    goodAt: ["Short descriptions and simple questions", "Runs on almost any machine"],
    fit: fit(1.3 * GB, 14 * GB, true),
    state: {
      type: "installed",
      folder: `${FOLDER}/SmolVLM-256M-Instruct`,
      current: false,
      registered: false,
      whole: true,
      repairable: true,
    },
  }),
  model("SmolVLM-500M-Instruct", {}),
  model("SmolVLM-Instruct", {
    parameters: 2.25e9,
    bytes: 4.5 * GB,
    goodAt: ["Documents and charts", "Several pictures in one question"],
    fit: fit(11.8 * GB),
    state: { type: "paused", done: 1.4 * GB, all: 4.5 * GB },
  }),
  model("llava-1.5-7b", {
    family: "LLaVA",
    parameters: 7.06e9,
    licence: "llama2",
    goodAt: ["Conversation about photos", "Long descriptions"],
    fit: fit(31 * GB),
  }),
  model("Llama-3.2-11B-Vision-Instruct", {
    family: "Llama-3.2-Vision",
    parameters: 1.07e10,
    licence: "llama3.2",
    gated: true,
    goodAt: ["Documents and charts"],
    fit: fit(47 * GB),
  }),
  model("Some-VL-2B", {
    family: "Some-VL",
    parameters: 2.2e9,
    goodAt: ["Reading documents in many languages"],
    supported: false,
    answers: false,
  }),
  model("siglip-base-patch16-224", {
    family: "SigLIP",
    parameters: 2.03e8,
    goodAt: ["Finding pictures by words"],
    answers: false,
  }),
];

const OFFLINE: ApiError = {
  code: "offline",
  message: "Sightline is set to stay offline",
  hint: "Switch offline off to fetch models.",
};

const FULL: ApiError = {
  code: "disk_full",
  message: `${FOLDER} is to hold 1.0 GB more, and its disk has 312 MB free`,
  hint: "Free some space, or choose a folder on another disk.",
};

const REFUSED: ApiError = {
  code: "refused",
  message: "huggingface.co refuses `owner/SmolVLM-500M-Instruct@main` (HTTP 401)",
  hint: "Accept the model's terms on its page and set an access token (HF_TOKEN).",
};

type Page =
  | "library"
  | "lookModel"
  | "pullModel"
  | "stopModel"
  | "verifyModel"
  | "removeModel"
  | "pickImport"
  | "setLibrary"
  | "pickModelsFolder";

/** The calls of the models' page; `pace` waits as long as a real step would take. */
export function fakeLibrary(scene: string, pace: () => Promise<unknown>): Pick<Backend, Page> {
  let models = MODELS();
  const stopped = new Set<string>();
  let settings: LibrarySettings = {
    folder: FOLDER,
    mirror: "",
    proxy: "",
    offline: scene === "offline",
    hasToken: false,
  };
  const find = (name: string): LibraryModel => {
    const found = models.find((one) => one.name === name || one.repo === name);
    if (found) return found;
    if (!name.includes("/"))
      throw { code: "model_unknown", message: `there is no \`${name}\``, hint: "" };
    const added = model(name.split("/")[1]!, { repo: name, goodAt: [], family: "" });
    models = [...models, added];
    return added;
  };
  const put = (name: string, state: LibraryModel["state"]) => {
    const repo = find(name).repo;
    models = models.map((one) => (one.repo === repo ? { ...one, bytes: GB, state } : one));
  };
  /** Walks through a transfer; an error where it was stopped. */
  async function walk(name: string, phase: Transfer["phase"], on: (t: Transfer) => void) {
    stopped.delete(name);
    for (let step = 0; step <= 20; step += 1) {
      const done = (step / 20) * GB;
      on({
        phase,
        file: "model.safetensors",
        done,
        all: GB,
        bytesPerSecond: 1.2e7,
        secondsLeft: (GB - done) / 1.2e7,
      });
      await pace();
      if (stopped.has(name)) {
        if (phase === "downloading") put(name, { type: "paused", done, all: GB });
        throw { code: "cancelled", message: "stopped", hint: "" };
      }
    }
  }

  return {
    library: async (): Promise<LibraryView> => ({ models, settings, diskFree: 4.1e10 }),
    lookModel: async (name): Promise<Look> => {
      await pace();
      if (settings.offline) throw OFFLINE;
      if (scene === "refused-model") throw REFUSED;
      const found = find(name);
      const known = found.fit ?? fit(2.2 * GB);
      return {
        name: found.name,
        repo: found.repo ?? name,
        bytes: found.bytes ?? 1.02 * GB,
        done: 0,
        nFiles: 12,
        licence: found.licence,
        fit: fit(known.needs, known.free, true),
        diskFree: 4.1e10,
      };
    },
    pullModel: async (name, on) => {
      if (scene === "full-disk") throw FULL;
      await walk(name, "downloading", on);
      const folder = `${FOLDER}/${find(name).name}`;
      put(name, {
        type: "installed",
        folder,
        current: false,
        registered: false,
        whole: true,
        repairable: true,
      });
      return folder;
    },
    stopModel: async (name) => {
      stopped.add(name);
    },
    verifyModel: async (name, repair, on): Promise<Verified> => {
      await walk(name, repair ? "downloading" : "verifying", on);
      const broken = [{ path: "tokenizer.json", what: "has another content" }];
      const whole = scene !== "broken-model";
      return { nFiles: 12, broken: whole ? [] : broken, repaired: !whole && repair };
    },
    removeModel: async (name) => {
      await pace();
      put(name, { type: "available" });
      return [];
    },
    pickImport: async () => {
      await pace();
      return null;
    },
    setLibrary: async (change) => {
      if (change.mirror && !change.mirror.startsWith("http")) {
        const message = `mirror \`${change.mirror}\` cannot be used: it is not an address`;
        throw { code: "setting", message, hint: "Correct it in the settings." };
      }
      settings = {
        folder: change.folder ?? settings.folder,
        mirror: change.mirror ?? settings.mirror,
        proxy: change.proxy ?? settings.proxy,
        offline: change.offline ?? settings.offline,
        hasToken: change.token === undefined ? settings.hasToken : change.token !== "",
      };
      return settings;
    },
    pickModelsFolder: async () => {
      settings = { ...settings, folder: "/media/disk/models" };
      return settings;
    },
  };
}
