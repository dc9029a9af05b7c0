/** The bar at the top of a page with live cells: a line of words, announced to screen readers, and the buttons that go with it. */
import { make } from "../output/types";

const LABELS = {
  start: "Run live", again: "Try again", runAll: "Run all", interrupt: "Interrupt", restart: "Restart", stop: "Stop",
  cancel: "Cancel", retry: "Try now", reload: "Reload",
};

export type Action = keyof typeof LABELS;

/** What the bar shows. */
export interface View {
  mood: "frozen" | "working" | "ready" | "waiting" | "trouble";
  words: string;
  /** What is announced; other than `words` where those change too often to be listened to. */
  spoken?: string;
  actions: readonly Action[];
}

/** Of words that replace each other quickly only the last are announced. */
const SPOKEN_AFTER_MS = 700;

export class Bar {
  readonly element = make("div", "live-bar");
  private readonly words = make("span", "live-words");
  private readonly status = make("span", "unseen");
  private readonly group = make("div", "live-buttons");
  private readonly buttons = new Map<Action, HTMLButtonElement>();
  private speaking: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly act: (action: Action) => void) {
    const state = make("div", "live-state");
    state.setAttribute("aria-hidden", "true"); // `status` says the same
    state.append(make("span", "live-dot"), this.words);
    this.status.setAttribute("role", "status");
    this.status.setAttribute("aria-live", "polite");
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Live cells");
    this.element.tabIndex = -1;
    this.element.append(state, this.status, this.group);
  }

  show({ mood, words, spoken = words, actions }: View): void {
    this.element.dataset["mood"] = mood;
    this.words.textContent = words;
    this.speak(spoken);
    const focused = this.group.contains(document.activeElement);
    const wanted = actions.map((action) => this.button(action));
    // Buttons that stay are not touched, so that they keep the focus.
    for (const button of [...this.group.children]) if (!wanted.includes(button as HTMLButtonElement)) button.remove();
    for (const [place, button] of wanted.entries()) {
      if (this.group.children[place] !== button) this.group.insertBefore(button, this.group.children[place] ?? null);
    }
    if (focused && !this.group.contains(document.activeElement)) this.element.focus({ preventScroll: true });
  }

  private speak(words: string): void {
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => {
      if (this.status.textContent !== words) this.status.textContent = words;
    }, SPOKEN_AFTER_MS);
  }

  private button(action: Action): HTMLButtonElement {
    let button = this.buttons.get(action);
    if (!button) {
      button = make("button", `live-${action}`, LABELS[action]);
      button.type = "button";
      button.onclick = () => this.act(action);
      this.buttons.set(action, button);
    }
    return button;
  }
}

/** Puts the bar where a page begins: behind its title, or before the grid of a dashboard. */
export function place(bar: HTMLElement, main: HTMLElement): void {
  const title = main.querySelector(":scope > h1, .nb:not(.nb-grid) > .cell.markdown:first-of-type > h1:first-child");
  if (title) title.after(bar);
  else main.prepend(bar);
}
