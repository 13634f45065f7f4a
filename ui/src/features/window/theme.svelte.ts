/** Light, dark, or as the system has it; remembered between starts where the page may remember. */

export type Choice = "system" | "light" | "dark";

const KEY = "sightline.theme";
const ORDER: Choice[] = ["system", "light", "dark"];

function remembered(): Choice {
  try {
    const stored = localStorage.getItem(KEY) as Choice | null;
    return stored && ORDER.includes(stored) ? stored : "system";
  } catch {
    return "system";
  }
}

export class Theme {
  choice = $state<Choice>(remembered());
  readonly next = $derived(ORDER[(ORDER.indexOf(this.choice) + 1) % ORDER.length]!);
  #dark: MediaQueryList;

  constructor() {
    this.#dark = matchMedia("(prefers-color-scheme: dark)");
    this.#dark.addEventListener("change", () => this.#apply());
    this.#apply();
  }

  turn(): void {
    this.set(this.next);
  }

  set(choice: Choice): void {
    this.choice = choice;
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Then it holds for this window only.
    }
    this.#apply();
  }

  #apply(): void {
    const dark = this.choice === "dark" || (this.choice === "system" && this.#dark.matches);
    document.documentElement.dataset["theme"] = dark ? "dark" : "light";
  }
}
