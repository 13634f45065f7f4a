/** Every state of the window over the scripted backend: empty, busy, failed, full. */
import { fireEvent, render, screen, waitFor } from "@testing-library/svelte";
import { tick } from "svelte";
import { beforeEach, expect, test, vi } from "vitest";
import App from "./App.svelte";
import { CARD, fake, script, type FakeBackend } from "./backend/fake.ts";
import { Workspace } from "./workspace.svelte.ts";

beforeEach(() => {
  HTMLDialogElement.prototype.showModal ??= function (this: HTMLDialogElement) {
    this.open = true;
  };
});

function open(scene: string): { workspace: Workspace; backend: FakeBackend } {
  const backend = fake(new URLSearchParams({ scene }), 0);
  const workspace = new Workspace(backend);
  render(App, { props: { workspace } });
  return { workspace, backend };
}

async function answered(): Promise<void> {
  await fireEvent.click((await screen.findAllByTestId("suggestion"))[0]!);
  await screen.findByTestId("facts");
}

test("empty: the stage says how to open a picture, and asking waits for one", async () => {
  open("empty");
  await screen.findByText("Drop a picture here");
  await screen.findByPlaceholderText("Open a picture first");
  expect(screen.getByRole("button", { name: "Ask" }).hasAttribute("disabled")).toBe(true);
  await fireEvent.click(screen.getByRole("button", { name: "Open a picture…" }));
  await screen.findByRole("img", { name: "example.png" });
});

test("first start: the example and three questions are ready", async () => {
  open("first");
  expect(await screen.findAllByTestId("suggestion")).toHaveLength(3);
  const limits = await screen.findByTestId("limits");
  expect(limits.textContent).toContain("nano cannot understand photographs");
});

test("the limits of somebody else's model are told as its card tells them", async () => {
  const { workspace } = open("first");
  await screen.findAllByTestId("suggestion");
  workspace.card = { ...CARD, name: "big", shipped: false, limits: ["It can be wrong."] };
  await tick();
  expect(screen.getByTestId("limits").textContent).toContain("big: It can be wrong.");
});

test("loading and failed to load are said", async () => {
  open("loading");
  expect((await screen.findByTestId("loading")).textContent).toContain("Loading nano");
  open("model-failed");
  await screen.findByText("The model could not be loaded");
  await screen.findByText(/lacks `model.connector/);
});

test("busy: progress is shown and the answer can be stopped", async () => {
  const { backend } = open("busy");
  await fireEvent.click((await screen.findAllByTestId("suggestion"))[0]!);
  await screen.findByTestId("progress");
  await fireEvent.click(await screen.findByRole("button", { name: "Stop" }));
  await waitFor(() => expect(backend.cancelled).toBe(1));
});

test("failed: the message, what to do next, and another try", async () => {
  const { workspace } = open("failed");
  await screen.findByText("holiday.jpg ends in the middle of its data");
  await fireEvent.click(screen.getByRole("button", { name: "Dismiss" }));
  expect(screen.queryByText("holiday.jpg ends in the middle of its data")).toBeNull();
  await fireEvent.click((await screen.findAllByTestId("suggestion"))[0]!);
  await screen.findByText(/612 tokens/);
  await screen.findByText(/Start a new chat/);
  await screen.findByRole("button", { name: "Try again" });
  expect(workspace.busy).toBe(false);
});

test("until an answer is checked its words show what they rest on", async () => {
  open("checking");
  await answered();
  const car = screen.getByText("car", { selector: ".word" });
  await fireEvent.pointerEnter(car);
  const region = await screen.findByTestId("region");
  expect(region.style.left).toBe("12.5000%");
  expect(region.style.width).toBe("30.0000%");
  expect(screen.getByTestId("evidence-place").textContent).toBe(
    "Rests on: bottom left, 7 % of the picture",
  );
  expect(screen.getByTestId("spoken").textContent).toContain("car: rests on: bottom left");
  await fireEvent.pointerLeave(car);
  await waitFor(() => expect(screen.queryByTestId("region")).toBeNull());
});

test("words are one stop of Tab; arrows move, Enter keeps, Escape lets go", async () => {
  const { workspace } = open("checking");
  await answered();
  const words = [...document.querySelectorAll<HTMLElement>(".word")];
  expect(words.map((word) => word.tabIndex)).toEqual([0, -1, -1, -1]);
  words[0]!.focus();
  await fireEvent.keyDown(words[0]!, { key: "ArrowRight" });
  await waitFor(() => expect(workspace.gaze?.text).toBe("car"));
  await fireEvent.keyDown(words[1]!, { key: "Enter" });
  words[1]!.blur();
  expect(workspace.gaze?.text).toBe("car");
  await fireEvent.keyDown(window, { key: "Escape" });
  expect(workspace.gaze).toBeNull();
});

test("what is asked goes with the pictures once; a follow-up sends none again", async () => {
  const { backend } = open("full");
  await answered();
  const box = screen.getByLabelText("Question");
  await fireEvent.input(box, { target: { value: "And where?" } });
  await fireEvent.keyDown(box, { key: "Enter" });
  await waitFor(() => expect(backend.asked).toHaveLength(2));
  expect(backend.asked.map((request) => request.images)).toEqual([[0], []]);
});

test("several pictures: the stage shows the one a word speaks of", async () => {
  const { workspace } = open("two");
  await answered();
  workspace.show(2);
  await screen.findByText("garden 2.png");
  await fireEvent.pointerEnter(await screen.findByText("a house", { selector: ".claim" }));
  await screen.findByText("garden 1.png");
});

test("answers are text, never markup", async () => {
  const { workspace, backend } = open("first");
  vi.spyOn(backend, "ask").mockImplementation(async (_, on) => {
    const finished = script().at(-1);
    if (finished?.type !== "finished") throw new Error("the script has an end");
    on({ ...finished, text: "<img src=x onerror=alert(1)>" });
  });
  await screen.findAllByTestId("suggestion");
  await workspace.ask("?");
  expect((await screen.findByTestId("answer")).textContent).toContain("<img src=x");
  expect(document.querySelector(".answer img")).toBeNull();
});

test("a file that is no picture is refused with the way on, and the rest is kept", async () => {
  const { workspace } = open("first");
  await screen.findAllByTestId("suggestion");
  const file = (name: string, type: string) => new File([new Uint8Array(3)], name, { type });
  await workspace.attach([file("notes.txt", "text/plain"), file("cat.png", "image/png")]);
  await screen.findByText("notes.txt is not a picture");
  await waitFor(() => expect(workspace.current?.name).toBe("cat.png"));
  // The example stepped aside.
  expect(workspace.strip.map((image) => image.name)).toEqual(["cat.png"]);
});

test("new chat keeps the picture and forgets the talk", async () => {
  const { workspace } = open("full");
  await answered();
  await fireEvent.click(screen.getByRole("button", { name: "New chat" }));
  await screen.findAllByTestId("suggestion");
  expect(workspace.turns).toEqual([]);
  expect(workspace.pending).toEqual([0]);
});

test("what the model saw shows the pieces", async () => {
  open("first");
  await screen.findAllByTestId("suggestion");
  await fireEvent.click(screen.getByRole("button", { name: "What the model saw" }));
  await screen.findByText(/192 × 192 pixels/);
});

async function modelPage(scene: string): Promise<{ workspace: Workspace; card: HTMLElement }> {
  const { workspace } = open(scene);
  await screen.findAllByTestId("suggestion");
  await fireEvent.click(screen.getByTestId("model"));
  const card = await screen.findByTestId("quantization");
  await waitFor(() => expect(card.querySelectorAll("tbody tr")).toHaveLength(3));
  return { workspace, card };
}

const format = (card: HTMLElement, value: string) =>
  card.querySelector<HTMLInputElement>(`input[value="${value}"]`)!;

test("the model's page tells what fewer bits take and cost", async () => {
  const { card } = await modelPage("first");
  const [plain, q8, q4] = [...card.querySelectorAll("tbody tr")].map((row) => row.textContent);
  expect(plain).toContain("32 MB");
  expect(q8).toContain("9.2 MB");
  expect(q8).toContain("0.2 points better");
  expect(q4).toContain("5.5 points lost");
  // Not by colour alone.
  expect(q4).toContain("more than may be lost");
  expect(q8).not.toContain("more than may be lost");
  expect(card.textContent).toContain("Measured 31 January 2026 on 300 drawn scenes");
});

test("a choice loads the model in that format, and the talk stays", async () => {
  const { workspace, card } = await modelPage("full");
  await answered();
  await fireEvent.click(format(card, "q8_0"));
  await waitFor(() => expect(workspace.card?.quantization).toBe("q8_0"));
  expect(screen.getByTestId("model").textContent).toContain("8 bits");
  expect(workspace.turns).toHaveLength(1);
});

test("a format that cannot be loaded is one error, and the mark goes back", async () => {
  const { workspace, card } = await modelPage("refused");
  await fireEvent.click(format(card, "q4_0"));
  await screen.findByText(/ends in the middle of its data/);
  expect(screen.getAllByTestId("error")).toHaveLength(1);
  expect(workspace.card?.quantization).toBe("none");
  await waitFor(() => expect(format(card, "none").checked).toBe(true));
  expect(format(card, "q4_0").checked).toBe(false);
});

test("of quick choices the last one counts", async () => {
  const { workspace, card } = await modelPage("first");
  await fireEvent.click(format(card, "q8_0"));
  await fireEvent.click(format(card, "q4_0"));
  await waitFor(() => expect(workspace.card?.quantization).toBe("q4_0"));
  await waitFor(() => expect(workspace.loading).toBe(false));
  expect(format(card, "q4_0").checked).toBe(true);
});

test("a model that was not measured says so and can be", async () => {
  const { card } = await modelPage("unmeasured");
  const unmeasured = await screen.findByTestId("unmeasured");
  expect(unmeasured.textContent).toContain("sightline eval quantization --model");
  expect(card.textContent).toContain("32 MB");
  expect(screen.getAllByLabelText("not measured")).toHaveLength(12);
  await fireEvent.click(screen.getByRole("button", { name: "Measure" }));
  await screen.findByLabelText("Measuring");
  await fireEvent.click(screen.getByRole("button", { name: "Stop" }));
  await screen.findByTestId("unmeasured");
  expect(screen.queryByTestId("error")).toBeNull();
  await fireEvent.click(screen.getByRole("button", { name: "Measure" }));
  await waitFor(() => expect(card.textContent).toContain("300 drawn scenes"));
});
