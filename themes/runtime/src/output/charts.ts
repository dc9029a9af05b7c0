/** What is drawn by a library: how to bring it up to date, and how to let go of it; and the theme that it is drawn in. */

/** A chart on the page. */
export interface Chart {
  /** Shows another value of the same type in place; resolves when it is done. */
  update?(value: unknown): Promise<void>;
  /** Draws it again in the colours of the theme that is shown now. */
  recolour?(): Promise<void>;
  /** Frees what the library holds. */
  dispose(): void;
}

const charts = new Map<HTMLElement, Chart>();
let watching = false;

/** Notes what draws into the `.data` element `element`. */
export function keepChart(element: HTMLElement, chart: Chart): void {
  element.classList.add("chart");
  charts.set(element, chart);
  if (!watching) watchTheme();
}

export function chartOf(element: HTMLElement): Chart | undefined {
  return charts.get(element);
}

/** Lets go of every chart at or below `root`, which is about to be removed. */
export function release(root: HTMLElement): void {
  for (const [element, chart] of charts) if (root.contains(element)) forget(element, chart);
}

function forget(element: HTMLElement, chart: Chart): void {
  charts.delete(element);
  try {
    chart.dispose();
  } catch (error) {
    console.warn("A chart could not be taken away.", error);
  }
}

/** Whether the page is dark now: by the switch in its header, else by the system. */
export function isDark(): boolean {
  const theme = document.documentElement.dataset["theme"];
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Colours of the theme, by the names of the tokens without `--color-`, as `rgb(..)` or `rgba(..)`. */
export function themeColours<Name extends string>(...names: Name[]): Record<Name, string> {
  return Object.fromEntries(names.map((name) => [name, resolved(`var(--color-${name})`)])) as Record<Name, string>;
}

/** Whether a colour is so light that dark text is written on it; so is one that is none. */
export function isLight(colour: string): boolean {
  const [red = 255, green = 255, blue = 255] = resolved(colour).match(/[\d.]+/g)?.map(Number) ?? [];
  return 0.3 * red + 0.6 * green + 0.1 * blue > 128;
}

function resolved(colour: string): string {
  const probe = document.body.appendChild(document.createElement("span"));
  probe.style.color = "white";
  probe.style.color = colour;
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function watchTheme(): void {
  watching = true;
  let dark = isDark();
  const look = (): void => {
    if (isDark() === dark) return;
    dark = !dark;
    for (const [element, chart] of charts) {
      if (!element.isConnected) forget(element, chart);
      else chart.recolour?.().catch((error: unknown) => console.warn("A chart kept its colours.", error));
    }
  };
  new MutationObserver(look).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", look);
}
