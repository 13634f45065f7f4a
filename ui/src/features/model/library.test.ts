/** Every state of the models' page over the scripted backend. */
import { fireEvent, render, screen, waitFor, within } from "@testing-library/svelte";
import { beforeEach, expect, test } from "vitest";
import App from "../../App.svelte";
import { fake } from "../../backend/fake.ts";
import type { Transfer } from "../../backend";
import { Workspace } from "../../workspace.svelte.ts";
import { duration, progress, says, weights } from "./library.svelte.ts";

beforeEach(() => {
  HTMLDialogElement.prototype.showModal ??= function (this: HTMLDialogElement) {
    this.open = true;
  };
});

async function open(scene: string): Promise<Workspace> {
  const workspace = new Workspace(fake(new URLSearchParams({ scene }), 5));
  render(App, { props: { workspace } });
  await screen.findAllByTestId("suggestion");
  await fireEvent.click(screen.getByTestId("model"));
  await fireEvent.click(await screen.findByTestId("tab-get"));
  await screen.findAllByTestId("offer");
  return workspace;
}

const offer = (name: string) => screen.getByRole("listitem", { name });
const press = (name: string, button: string) =>
  fireEvent.click(within(offer(name)).getByRole("button", { name: button }));
const state = (name: string) => offer(name).dataset["state"];

test("a card says what a model is good at, its licence, and whether it fits", async () => {
  await open("get");
  const small = offer("SmolVLM-500M-Instruct");
  expect(small.textContent).toContain("Reading short texts");
  expect(small.textContent).toContain("507 million weights · licence apache-2.0");
  expect(within(small).getByTestId("fit").textContent).toContain(
    "Needs about 2.2 GB of memory with a 512-px picture; this machine has 14 GB free",
  );
  // Not by colour alone.
  expect(offer("llava-1.5-7b").textContent).toContain("(too little)");
  expect(offer("SmolVLM-Instruct").textContent).toContain("(tight)");
  expect(offer("Some-VL-2B").textContent).toContain("cannot open this family yet");
  expect(within(offer("Some-VL-2B")).queryByRole("button", { name: "Download" })).toBeNull();
  expect(offer("siglip-base-patch16-224").textContent).toContain("sightline classify");
  expect(offer("Llama-3.2-11B-Vision-Instruct").textContent).toContain("set an access token");
});

test("what is there or half there comes first", async () => {
  await open("get");
  const names = screen.getAllByTestId("offer").map((card) => card.dataset["state"]);
  expect(names.slice(0, 3)).toEqual(["installed", "paused", "available"]);
});

test("a model is downloaded, paused, gone on with, used, verified and removed", async () => {
  const name = "SmolVLM-500M-Instruct";
  const workspace = await open("get");
  await press(name, "Download");
  await waitFor(() => expect(offer(name).textContent).toContain("12 MB/s"));
  expect(within(offer(name)).getByRole("progressbar")).toBeTruthy();
  expect(offer(name).textContent).toMatch(/left/);
  await press(name, "Pause");
  await waitFor(() => expect(state(name)).toBe("paused"));
  expect(screen.queryByTestId("error")).toBeNull();
  await press(name, "Resume");
  await waitFor(() => expect(state(name)).toBe("installed"));
  expect(screen.getByText(`${name} is downloaded`)).toBeTruthy();
  await press(name, "Verify");
  await waitFor(() => expect(offer(name).textContent).toContain("All 12 files"));
  await press(name, "Use");
  await waitFor(() => expect(workspace.loading).toBe(false));
  await press(name, "Remove");
  expect(state(name)).toBe("installed");
  await press(name, "Keep it");
  await press(name, "Remove");
  const question = within(offer(name)).getByTestId("question");
  await fireEvent.click(within(question).getByRole("button", { name: "Remove" }));
  await waitFor(() => expect(state(name)).toBe("available"));
});

test("cancel throws away what has arrived, after a question", async () => {
  const name = "SmolVLM-500M-Instruct";
  await open("get");
  await press(name, "Download");
  await waitFor(() => expect(offer(name).textContent).toContain("12 MB/s"));
  await press(name, "Cancel");
  await press(name, "Throw away");
  await waitFor(() => expect(state(name)).toBe("available"));
});

test("what does not fit into memory is asked about before anything is fetched", async () => {
  await open("get");
  await press("llava-1.5-7b", "Download");
  await waitFor(() => within(offer("llava-1.5-7b")).getByTestId("question"));
  expect(within(offer("llava-1.5-7b")).getByTestId("fit").textContent).toContain("Needs 31.0 GB");
  await press("llava-1.5-7b", "Not now");
  expect(state("llava-1.5-7b")).toBe("available");
});

test("a damaged model is mended", async () => {
  const name = "SmolVLM-256M-Instruct";
  await open("broken-model");
  await press(name, "Verify");
  await waitFor(() => expect(offer(name).textContent).toContain("tokenizer.json has another"));
  await press(name, "Repair");
  await waitFor(() => expect(offer(name).textContent).toContain("Mended: tokenizer.json"));
});

test("a full disk and a refusal say why, and offer the way on", async () => {
  await open("full-disk");
  await press("SmolVLM-500M-Instruct", "Download");
  await screen.findByText(/its disk has 312 MB free/);
  await press("SmolVLM-500M-Instruct", "Choose another folder…");
  await screen.findByText(/\/media\/disk\/models/);
});

test("a refused model leads to the access token", async () => {
  await open("refused-model");
  await press("SmolVLM-500M-Instruct", "Download");
  await screen.findByText(/HTTP 401/);
  await press("SmolVLM-500M-Instruct", "Set an access token");
  await screen.findByLabelText("Access token");
});

test("offline is said, nothing can be downloaded, and it can be left", async () => {
  await open("offline");
  await screen.findByTestId("offline");
  const download = within(offer("SmolVLM-500M-Instruct")).getByRole("button", { name: "Download" });
  expect(download.hasAttribute("disabled")).toBe(true);
  await fireEvent.click(screen.getByLabelText("Offline"));
  await waitFor(() => expect(screen.queryByTestId("offline")).toBeNull());
  expect(download.hasAttribute("disabled")).toBe(false);
});

test("search finds by name and ability; an empty one offers the Hub", async () => {
  await open("get");
  const search = screen.getByLabelText("Search models");
  await fireEvent.input(search, { target: { value: "documents" } });
  expect(screen.getAllByTestId("offer")).toHaveLength(3);
  await fireEvent.input(search, { target: { value: "zebra" } });
  expect(screen.getByTestId("no-model").textContent).toContain("“zebra”");
  await fireEvent.click(screen.getByRole("button", { name: "Clear the search" }));
  expect(screen.getAllByTestId("offer")).toHaveLength(7);
  await fireEvent.input(search, { target: { value: "someone/Their-Model" } });
  const other = screen.getByTestId("repository");
  await fireEvent.click(within(other).getByRole("button", { name: "Download" }));
  await waitFor(() => expect(state("Their-Model")).toBe("installed"));
});

test("settings are saved, and a wrong one is named", async () => {
  await open("get");
  await fireEvent.click(screen.getByRole("button", { name: "Folder, mirror, proxy" }));
  const mirror = screen.getByLabelText("Mirror");
  await fireEvent.input(mirror, { target: { value: "nowhere" } });
  await fireEvent.click(screen.getByRole("button", { name: "Save" }));
  await screen.findByText(/cannot be used/);
  await fireEvent.input(mirror, { target: { value: "https://hub.example.org" } });
  await fireEvent.click(screen.getByRole("button", { name: "Save" }));
  await screen.findByText("Saved");
  expect(screen.queryByTestId("error")).toBeNull();
});

test("the pages are tabs that arrows turn", async () => {
  await open("get");
  const tab = screen.getByTestId("tab-get");
  expect(tab.getAttribute("aria-selected")).toBe("true");
  await fireEvent.keyDown(tab, { key: "ArrowLeft" });
  await screen.findByTestId("reliability");
  await fireEvent.keyDown(screen.getByTestId("tab-marks"), { key: "ArrowLeft" });
  await screen.findByTestId("quantization");
  expect(screen.queryByTestId("library")).toBeNull();
});

test("figures in words", () => {
  const at: Transfer = {
    phase: "downloading",
    file: "a",
    done: 3.1e8,
    all: 1e9,
    bytesPerSecond: 1.2e7,
    secondsLeft: 57.5,
  };
  expect(progress(at)).toBe("310 MB of 1.0 GB · 12 MB/s · 58 s left");
  expect(progress({ ...at, phase: "waiting" })).toBe("310 MB of 1.0 GB · waiting for the network");
  expect(progress({ ...at, phase: "verifying" })).toBe("Checking a");
  expect([12, 200, 5000, 7300].map(duration)).toEqual(["12 s", "3 min", "83 min", "2 h 2 min"]);
  expect([9.4e6, 5.07e8, 2.25e9].map(weights)[2]).toBe("2.3 billion weights");
  expect(says({ nFiles: 3, broken: [], repaired: false })).toContain("All 3 files");
});
