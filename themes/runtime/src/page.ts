/**
 * What every page has: theme switch, log-out button, current place in the contents, copy buttons, its height for an embedding
 * page; and what fetches the rest where there are live cells, widgets or charts.
 *
 * A classic script, loaded in <head> without `defer`: it sets the theme before anything is painted, so that nothing flashes,
 * and works from file://. The page is complete without it.
 */
import { wireAccount } from "./account";
import { wireLive } from "./enliven";

const root = document.documentElement;

const THEME_KEY = "nbfolio-theme";
const THEMES = ["system", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

/** The page shows this theme while storage is refused (private windows, sandboxed frames). */
let unsaved: Theme = "system";

function chosenTheme(): Theme {
  try {
    const stored = localStorage.getItem(THEME_KEY);
    return THEMES.find((theme) => theme === stored) ?? "system";
  } catch {
    return unsaved;
  }
}

function chooseTheme(theme: Theme): void {
  unsaved = theme;
  try {
    localStorage.setItem(THEME_KEY, theme);
  } catch {
    // Kept in `unsaved` for as long as the page is open.
  }
}

/** Without the attribute the stylesheet follows the system by itself, also with JavaScript off. */
function showTheme(): void {
  const theme = chosenTheme();
  if (theme === "system") delete root.dataset["theme"];
  else root.dataset["theme"] = theme;
  for (const button of document.querySelectorAll<HTMLButtonElement>("button.theme-switch")) {
    button.dataset["choice"] = theme;
    button.title = `Theme: ${theme}`;
    button.setAttribute("aria-label", button.title);
  }
}

function wireThemeSwitch(): void {
  for (const button of document.querySelectorAll<HTMLButtonElement>("button.theme-switch")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      chooseTheme(THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length]!);
      showTheme();
    });
  }
  showTheme();
  addEventListener("storage", showTheme); // chosen in another tab or in the frame around us
  addEventListener("pageshow", showTheme); // chosen elsewhere while this page lay in the back-forward cache
}

/** The heading a link of the contents leads to, found as browsers do: the fragment as it stands, then decoded. */
function headingOf(link: HTMLAnchorElement): HTMLElement | null {
  const fragment = link.getAttribute("href")!.slice(1);
  try {
    return document.getElementById(fragment) ?? document.getElementById(decodeURIComponent(fragment));
  } catch {
    return null; // a stray % that encodes nothing
  }
}

/** Marks in the contents the section that is being read: the last one that begins in the upper third of the window. */
function followContents(): void {
  const sections: { heading: HTMLElement; link: HTMLAnchorElement }[] = [];
  for (const link of document.querySelectorAll<HTMLAnchorElement>('nav.contents a[href^="#"]')) {
    const heading = headingOf(link);
    if (heading) sections.push({ heading, link });
  }
  if (!sections.length) return;
  const begun = new Set<Element>();
  let current: HTMLAnchorElement | undefined;
  const follow = (entries: IntersectionObserverEntry[]): void => {
    for (const { isIntersecting, target } of entries) begun[isIntersecting ? "add" : "delete"](target);
    const reading = sections.findLast(({ heading }) => begun.has(heading))?.link;
    if (reading === current) return;
    current?.removeAttribute("aria-current");
    reading?.setAttribute("aria-current", "location");
    current = reading;
    if (reading) reveal(reading);
  };
  // All of the page above the line counts as inside: so a heading that a jump carries over the window is reported too.
  const observer = new IntersectionObserver(follow, { root: document, rootMargin: "9999999px 0px -66.67% 0px" });
  for (const { heading } of sections) observer.observe(heading);
}

/** Scrolls long contents, and never the page, so that `link` is in sight. */
function reveal(link: HTMLAnchorElement): void {
  const nav = link.closest("nav")!;
  const [outer, inner] = [nav.getBoundingClientRect(), link.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) nav.scrollTop += inner.top - outer.top - nav.clientHeight / 2;
}

const COPIED_MS = 2000;

/** Puts a button behind every code block; it comes after the code in the order of Tab. */
function addCopyButtons(): void {
  for (const block of document.querySelectorAll<HTMLElement>(".highlight")) {
    const code = block.querySelector("pre");
    if (!code) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-live", "polite");
    button.addEventListener("click", async () => {
      button.textContent = (await copy(code.textContent.replace(/\n$/, ""))) ? "Copied" : "Not copied";
      setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
    });
    block.append(button);
  }
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text); // no clipboard on plain http, nor in a frame that was not given the right to it
  }
}

function copyBySelection(text: string): boolean {
  const focused = document.activeElement as HTMLElement | null;
  const field = document.createElement("textarea");
  field.value = text;
  field.style.cssText = "position:fixed;opacity:0";
  document.body.append(field);
  field.focus({ preventScroll: true });
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return done;
}

/** Tells the page that embeds this one how high it is, now and whenever that changes. */
function reportHeight(): void {
  if (parent === window) return;
  let sent: number | undefined;
  new ResizeObserver(() => {
    // Not scrollHeight: that is never less than the frame, so a frame that follows it could only grow.
    const height = Math.ceil(root.getBoundingClientRect().height);
    if (height === sent) return;
    sent = height;
    parent.postMessage({ type: "nbfolio:height", height, path: location.pathname }, "*");
  }).observe(root);
}

/** What scrolls sideways can be reached with the keyboard, what fits is no stop on its way. */
function reachScrollers(): void {
  if (!("ResizeObserver" in window)) return;
  const blocks = document.querySelectorAll<HTMLElement>(".math, .cell.markdown > :is(div, section, center, figure)");
  const own = [...blocks].filter((block) => !block.hasAttribute("tabindex"));
  const check = (): void => {
    for (const block of own) {
      if (block.scrollWidth > block.clientWidth) block.tabIndex = 0;
      else block.removeAttribute("tabindex");
    }
  };
  const observer = new ResizeObserver(check);
  for (const block of own) observer.observe(block);
  if ("fonts" in document) void document.fonts.ready.then(check);
}

function wire(): void {
  wireThemeSwitch();
  wireAccount();
  followContents();
  addCopyButtons();
  reachScrollers();
  reportHeight();
  wireLive();
}

showTheme();
if (document.readyState === "loading") addEventListener("DOMContentLoaded", wire);
else wire();
