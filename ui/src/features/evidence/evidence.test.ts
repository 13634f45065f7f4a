/** Evidence in the window over the scripted backend: claims, trials, the picture, the numbers. */
import { fireEvent, render, screen, waitFor } from "@testing-library/svelte";
import { beforeEach, expect, test } from "vitest";
import App from "../../App.svelte";
import { fake, type FakeBackend } from "../../backend/fake.ts";
import { Workspace } from "../../workspace.svelte.ts";

beforeEach(() => {
  HTMLDialogElement.prototype.showModal ??= function (this: HTMLDialogElement) {
    this.open = true;
  };
});

async function answered(scene = "full"): Promise<{ workspace: Workspace; backend: FakeBackend }> {
  const backend = fake(new URLSearchParams({ scene }), 0);
  const workspace = new Workspace(backend);
  render(App, { props: { workspace } });
  await fireEvent.click((await screen.findAllByTestId("suggestion"))[0]!);
  await screen.findByTestId("facts");
  return { workspace, backend };
}

async function claims(): Promise<HTMLElement[]> {
  await screen.findByTestId("claims-line");
  return [...document.querySelectorAll<HTMLElement>(".claim")];
}

async function chosen(index: number): Promise<HTMLElement> {
  const found = await claims();
  await fireEvent.click(found[index]!);
  return screen.findByTestId("claim-card");
}

test("claims are underlined by state, and their states are counted in words", async () => {
  await answered();
  const found = await claims();
  expect(
    found.map((claim) =>
      claim.className.split(" ").find((c) => c !== "claim" && !c.startsWith("svelte")),
    ),
  ).toEqual(["seen", "guessed", "seen", "guessed", "unsupported"]);
  const line = screen.getByTestId("claims-line").textContent;
  expect(line).toContain("Seen 2");
  expect(line).toContain("Not supported 1");
});

test("pointing at a claim draws one outline, says what it rests on, and the bars", async () => {
  await answered();
  const [car] = await claims();
  await fireEvent.pointerEnter(car!);
  expect((await screen.findByTestId("region")).style.left).toBe("12.5000%");
  expect(screen.getAllByTestId("outline")).toHaveLength(1);
  expect(screen.getByTestId("evidence-place").textContent).toBe(
    "Rests on: bottom left, 7 % of the picture",
  );
  expect(screen.getByTestId("bars").textContent).toContain("91 %");
  expect(screen.getByTestId("spoken").textContent).toContain("97 % sure");
  await fireEvent.pointerLeave(car!);
  await waitFor(() => expect(screen.queryByTestId("region")).toBeNull());
});

test("a claim without a region says so and draws none", async () => {
  await answered();
  const found = await claims();
  await fireEvent.pointerEnter(found[4]!);
  expect(screen.getByTestId("evidence-place").textContent).toBe("No region found");
  expect(screen.queryByTestId("region")).toBeNull();
  expect(found[4]!.getAttribute("aria-label")).toContain("not supported; no region found");
});

test("claims are one stop of Tab; arrows move, Enter opens the card, Escape lets go", async () => {
  const { workspace } = await answered();
  const found = await claims();
  expect(found.map((claim) => claim.tabIndex)).toEqual([0, -1, -1, -1, -1]);
  found[0]!.focus();
  await fireEvent.keyDown(found[0]!, { key: "ArrowRight" });
  await waitFor(() => expect(workspace.gaze?.text).toBe("in front of"));
  await fireEvent.keyDown(found[1]!, { key: "End" });
  await waitFor(() => expect(workspace.gaze?.text).toBe("a dog"));
  await fireEvent.keyDown(found[4]!, { key: "Enter" });
  const card = await screen.findByTestId("claim-card");
  expect(card.textContent).toContain("No region found.");
  expect(screen.queryByRole("button", { name: /Cover this/ })).toBeNull();
  found[4]!.blur();
  await fireEvent.keyDown(window, { key: "Escape" });
  await waitFor(() => expect(screen.queryByTestId("claim-card")).toBeNull());
});

test("the card tells what such marks were worth", async () => {
  await answered();
  const card = await chosen(4);
  expect(card.textContent).toContain("wrong 9 times in 10, of 298 tested");
});

test("cover this and ask again: three answers side by side, and the badge", async () => {
  await answered();
  const card = await chosen(0);
  expect(screen.queryByTestId("tested")).toBeNull();
  await fireEvent.click(screen.getByRole("button", { name: "Cover this and ask again" }));
  const outcome = await screen.findByTestId("outcome");
  expect(outcome.textContent).toContain("Tested.");
  const trial = screen.getByTestId("trial");
  for (const title of ["As it was", "Covered", "Covered elsewhere"])
    expect(trial.textContent).toContain(title);
  expect(trial.textContent).toContain("A house, a tree and a dog.");
  await waitFor(() => expect(card.textContent).toContain("Tested"));
});

test("what does not change with its region earns no badge", async () => {
  await answered();
  await chosen(3);
  await fireEvent.click(screen.getByRole("button", { name: "Test this" }));
  expect((await screen.findByTestId("outcome")).textContent).toContain("Not confirmed.");
  expect(screen.queryByTestId("tested")).toBeNull();
});

test("a running test shows how far it is and the time left, and can be stopped", async () => {
  const { workspace } = await answered("slow-trial");
  await chosen(0);
  await fireEvent.click(screen.getByRole("button", { name: "Test this" }));
  await waitFor(() => expect(screen.getByTestId("trial").textContent).toContain("s left"));
  expect(screen.getByTestId("trial").querySelector("progress")?.value).toBeGreaterThan(0);
  expect(screen.getByRole("button", { name: "Test this" }).hasAttribute("disabled")).toBe(true);
  await fireEvent.click(screen.getByRole("button", { name: "Stop" }));
  await waitFor(() => expect(workspace.inspection.trial).toBeNull());
  expect(screen.queryByTestId("error")).toBeNull();
});

test("a test that fails says why, and what to do", async () => {
  await answered("trial-failed");
  await chosen(0);
  await fireEvent.click(screen.getByRole("button", { name: "Test this" }));
  await screen.findByText("there is no memory left for the test");
  expect(screen.getByTestId("trial").textContent).toContain("Open another model");
});

test("without the picture: what it says then, and the words with and without", async () => {
  await answered();
  await chosen(0);
  await fireEvent.click(screen.getByRole("button", { name: "Look without the picture" }));
  await screen.findByText(/need the picture/);
  const rows = screen.getByTestId("trial").querySelectorAll("tbody tr");
  expect(rows).toHaveLength(5);
  expect(rows[1]!.textContent?.replace(/\s+/g, " ")).toContain("car94 %11 %");
});

test("unsupported claims are struck, the rest can be copied, and it can be undone", async () => {
  await answered();
  const found = await claims();
  await fireEvent.click(screen.getByRole("button", { name: "Strike unsupported" }));
  expect(found[4]!.classList.contains("struck")).toBe(true);
  expect(screen.getByTestId("cleaned").textContent).toContain(
    "A red car in front of a house and a tree.",
  );
  await fireEvent.click(screen.getByRole("button", { name: "Undo" }));
  expect(screen.queryByTestId("cleaned")).toBeNull();
  expect(found[4]!.classList.contains("struck")).toBe(false);
});

test("a word is searched in the picture: found, or said not to be there", async () => {
  await answered();
  await claims();
  const field = screen.getByTestId("word-search");
  await fireEvent.input(field, { target: { value: "wheel" } });
  await fireEvent.submit(field.closest("form")!);
  await waitFor(() =>
    expect(screen.getByTestId("search-result").textContent).toContain("is read at: bottom left"),
  );
  screen.getByTestId("outline");
  await fireEvent.input(field, { target: { value: "unicorn" } });
  await fireEvent.submit(field.closest("form")!);
  await waitFor(() =>
    expect(screen.getByTestId("search-result").textContent).toContain("No part of the picture"),
  );
  expect(screen.queryByTestId("outline")).toBeNull();
  await fireEvent.keyDown(field, { key: "Escape" });
  expect(screen.queryByTestId("search-result")).toBeNull();
});

test("a spot: by keys as by pointer, the words that depend on it get a weight", async () => {
  await answered();
  await claims();
  const surface = screen.getByTestId("surface");
  surface.focus();
  for (const key of ["ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft"])
    await fireEvent.keyDown(surface, { key });
  for (let i = 0; i < 4; i += 1) await fireEvent.keyDown(surface, { key: "ArrowDown" });
  await fireEvent.keyDown(surface, { key: "Enter" });
  await waitFor(() =>
    expect(screen.getByTestId("spot-summary").textContent).toContain("“car” loses 81 %"),
  );
  expect(screen.getAllByTestId("weight").map((word) => word.textContent)).toContain("car");
  expect(screen.getByTestId("spoken").textContent).toContain("81 %");
  await fireEvent.keyDown(window, { key: "Escape" });
  await waitFor(() => expect(screen.queryAllByTestId("weight")).toHaveLength(0));
});

test("a drawn box is asked about alone", async () => {
  const { workspace, backend } = await answered();
  await claims();
  const surface = screen.getByTestId("surface");
  for (const key of ["ArrowRight", "ArrowDown", "ArrowRight"])
    await fireEvent.keyDown(surface, { key, shiftKey: true });
  await fireEvent.click(await screen.findByRole("button", { name: "Ask about this" }));
  expect(screen.getByTestId("about").textContent).toContain("This part alone");
  workspace.draft = "What is here?";
  await workspace.ask();
  expect(backend.asked.at(-1)).toMatchObject({ images: [], region: { image: 0 } });
  expect(workspace.about).toBeNull();
  await screen.findByText(/About in the middle/);
});

test("a model that is not calibrated has no marks, and one button to get them", async () => {
  await answered("uncalibrated");
  expect(document.querySelectorAll(".claim, .word")).toHaveLength(0);
  expect((await screen.findByTestId("calibrate")).textContent).toContain("Marks are off.");
  await fireEvent.click(screen.getByRole("button", { name: "Calibrate (about 4 minutes)" }));
  await claims();
  expect(screen.queryByTestId("calibrate")).toBeNull();
});

test("a mark that does not beat chance is hidden, and it is said", async () => {
  await answered("unsure-counts");
  expect(await claims()).toHaveLength(4);
  await screen.findByText(/One mark is not shown/);
  await fireEvent.click(screen.getByTestId("model"));
  await fireEvent.click(await screen.findByTestId("tab-marks"));
  expect((await screen.findByTestId("hidden-marks")).textContent).toContain(
    "3 marks do no better than chance",
  );
});

test("a check that fails is one error, and can be tried again", async () => {
  await answered("check-failed");
  await screen.findByText(/says neither yes nor no/);
  screen.getByRole("button", { name: "Check again" });
});

test("this model is verified in the app, with a table that says what holds", async () => {
  const { workspace } = await answered("unsure-counts");
  await fireEvent.click(screen.getByTestId("model"));
  await fireEvent.click(await screen.findByTestId("tab-marks"));
  await fireEvent.click(await screen.findByRole("button", { name: "Verify this model" }));
  await waitFor(() =>
    expect(screen.getByTestId("evidence-table").querySelectorAll("tbody tr")).toHaveLength(5),
  );
  expect(screen.getByTestId("evidence-table").textContent).toContain("does not hold");
  expect(workspace.marks.running).toBeNull();
});

test("the numbers: heads by keys, words by row, export", async () => {
  const { workspace } = await answered();
  await claims();
  await fireEvent.click(screen.getByTestId("expert"));
  const heads = await screen.findByTestId("heads");
  expect(heads.querySelectorAll("button")).toHaveLength(48);
  await waitFor(() => expect(workspace.numbers.map).not.toBeNull());
  const first = heads.querySelector<HTMLElement>("button")!;
  await fireEvent.keyDown(first, { key: "ArrowDown" });
  await waitFor(() => expect(workspace.numbers.head).toEqual([3, 0]));
  await fireEvent.click(screen.getByRole("button", { name: "house" }));
  await waitFor(() => expect(workspace.numbers.word).toBe(7));
  await fireEvent.click(screen.getByRole("button", { name: "Report (HTML)" }));
  await screen.findByText("Saved: ~/Documents/answer.html");
});
