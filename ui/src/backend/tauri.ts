/**
 * The backend inside the window: every call is a command of the shell, every picture comes through
 * the `media:` scheme by its number. The only file that knows Tauri.
 */
import { Channel, convertFileSrc, invoke } from "@tauri-apps/api/core";
import { getCurrentWebview } from "@tauri-apps/api/webview";
import type { Attached, Backend } from "./index.ts";
import type { AskEvent, LongProgress, Progress, Transfer, TrialEvent } from "./bindings";

export const tauri: Backend = {
  state: () => invoke("state"),
  loaded: () => invoke("loaded"),
  models: () => invoke("models"),
  openModel: (folder) => invoke("open_model", { folder }),
  pickModel: (kind) => invoke("pick_model", { file: kind === "file" }),
  quantization: () => invoke("quantization"),
  setQuantization: (quantization) => invoke("set_quantization", { quantization }),
  measureQuantization: (on) =>
    invoke("measure_quantization", { onEvent: new Channel<Progress>(on) }),
  cancelMeasuring: () => invoke("cancel_measuring"),
  library: () => invoke("library"),
  lookModel: (name) => invoke("look_model", { name }),
  pullModel: (name, on) => invoke("pull_model", { name, onEvent: new Channel<Transfer>(on) }),
  stopModel: (name) => invoke("stop_model", { name }),
  verifyModel: (name, repair, on) =>
    invoke("verify_model", { name, repair, onEvent: new Channel<Transfer>(on) }),
  removeModel: (name) => invoke("remove_model", { name }),
  pickImport: (copy) => invoke("pick_import", { copy }),
  setLibrary: (change) => invoke("set_library", { change }),
  pickModelsFolder: () => invoke("pick_models_folder"),
  pickImages: () => invoke("pick_images"),
  attach: async (file) =>
    invoke("attach_bytes", new Uint8Array(await file.arrayBuffer()), {
      // A header carries ASCII only.
      headers: { "x-name": encodeURIComponent(file.name) },
    }),
  forgetImage: (id) => invoke("forget_image", { id }),
  newChat: () => invoke("new_chat"),
  ask: (request, on) => invoke("ask", { request, onEvent: new Channel<AskEvent>(on) }),
  regenerate: (chat, on) => invoke("regenerate", { chat, onEvent: new Channel<AskEvent>(on) }),
  cancel: (chat) => invoke("cancel", { chat }),
  check: (answer) => invoke("check", { answer }),
  cover: (request, on) => invoke("cover", { request, onEvent: new Channel<TrialEvent>(on) }),
  test: (answer, claim, on) =>
    invoke("test", { answer, claim, onEvent: new Channel<TrialEvent>(on) }),
  without: (answer, on) => invoke("without", { answer, onEvent: new Channel<TrialEvent>(on) }),
  spot: (answer, image, at) => invoke("spot", { answer, image, at }),
  stopTrial: () => invoke("stop_trial"),
  searchWord: (chat, image, query) => invoke("search_word", { chat, image, query }),
  expert: (answer) => invoke("expert", { answer }),
  rawMap: (request) => invoke("raw_map", { request }),
  exportAnswer: (answer, format) => invoke("export_answer", { answer, format }),
  reliability: () => invoke("reliability"),
  calibrate: (on) => invoke("calibrate", { onEvent: new Channel<LongProgress>(on) }),
  measureEvidence: (on) =>
    invoke("measure_evidence", { onEvent: new Channel<LongProgress>(on) }),
  imageUrl: (id) => convertFileSrc(`image/${id}`, "media").replace("%2F", "/"),
  seenUrl: (id) => convertFileSrc(`seen/${id}`, "media").replace("%2F", "/"),
  onDrop: (over, done) =>
    getCurrentWebview().onDragDropEvent(async ({ payload }) => {
      over(payload.type === "enter" || payload.type === "over");
      if (payload.type !== "drop") return;
      done(await invoke<Attached>("attach_paths", { paths: payload.paths }));
    }),
};
