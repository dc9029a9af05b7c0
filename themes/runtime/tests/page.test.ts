// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";

const root = document.documentElement;

/** The observers of a browser, which jsdom lacks: they keep their callback for the test to call. */
let crossed: (entries: { target: Element; isIntersecting: boolean }[]) => void;
let resized: () => void;
let listening: AbortController;

beforeEach(() => {
  vi.stubGlobal("IntersectionObserver", class {
    constructor(callback: typeof crossed) { crossed = callback; }
    observe(): void {}
  });
  vi.stubGlobal("ResizeObserver", class {
    constructor(callback: typeof resized) { resized = callback; }
    observe(): void { resized(); }
  });
  // The listeners of one test's page must not hear the events of the next one.
  listening = new AbortController();
  const add = window.addEventListener.bind(window);
  vi.stubGlobal("addEventListener", (type: string, listener: EventListener) => add(type, listener, { signal: listening.signal }));
});

afterEach(() => {
  listening.abort();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  localStorage.clear();
  delete root.dataset["theme"];
});

/** Opens a page with this body, as far as the script is concerned. */
async function open(body: string): Promise<void> {
  document.body.innerHTML = body;
  vi.resetModules();
  await import("../src/page");
}

function element<T extends HTMLElement>(selector: string): T {
  return document.querySelector<T>(selector)!;
}

// Theme

const SWITCH = '<button class="theme-switch" hidden></button>';

test("the stored theme is on <html> before the body is read", async () => {
  localStorage.setItem("nbfolio-theme", "dark");
  vi.spyOn(document, "readyState", "get").mockReturnValue("loading");
  await open("");
  expect(root.dataset["theme"]).toBe("dark");
  document.body.innerHTML = SWITCH;
  window.dispatchEvent(new Event("DOMContentLoaded"));
  expect(element("button").hidden).toBe(false);
  expect(element("button").title).toBe("Theme: dark");
});

test("the switch goes through system, light and dark, says which one it is, and keeps it", async () => {
  await open(SWITCH);
  const seen = [];
  for (let press = 0; press < 4; press += 1) {
    seen.push([root.dataset["theme"], element("button").getAttribute("aria-label"), element("button").dataset["choice"]]);
    element("button").click();
  }
  const system = [undefined, "Theme: system", "system"];
  expect(seen).toEqual([system, ["light", "Theme: light", "light"], ["dark", "Theme: dark", "dark"], system]);
  expect(localStorage.getItem("nbfolio-theme")).toBe("light");
});

test.each(["solarized", "", "__proto__"])("a stored theme %j that does not exist counts as system", async (stored) => {
  localStorage.setItem("nbfolio-theme", stored);
  await open(SWITCH);
  expect(root.dataset["theme"]).toBeUndefined();
});

test("the switch works for the open page where storage is refused", async () => {
  vi.stubGlobal("localStorage", undefined);
  await open(SWITCH);
  element("button").click();
  element("button").click();
  expect(root.dataset["theme"]).toBe("dark");
});

test.each(["storage", "pageshow"])("a theme chosen in another tab shows here too (%s)", async (event) => {
  await open(SWITCH);
  localStorage.setItem("nbfolio-theme", "light");
  window.dispatchEvent(new Event(event));
  expect(root.dataset["theme"]).toBe("light");
  expect(element("button").title).toBe("Theme: light");
});

test("a page without switch, contents and code is left alone", async () => {
  await open("<p>text</p>");
  expect(document.body.innerHTML).toBe("<p>text</p>");
});

// Contents

const CONTENTS = `
  <nav class="contents"><a href="#one">1</a><a href="#gr%C3%BCn">2</a><a href="#50%-off">3</a><a href="#100%25">4</a><a href="#gone">5</a></nav>
  <h2 id="one"></h2><h2 id="grün"></h2><h2 id="50%-off"></h2><h2 id="100%"></h2>`;

function current(): string[] {
  return [...document.querySelectorAll('[aria-current="location"]')].map((link) => link.textContent);
}

test("the contents mark the last section that has begun", async () => {
  await open(CONTENTS);
  const [one, green, off] = document.querySelectorAll("h2") as unknown as [Element, Element, Element];
  crossed([{ target: one, isIntersecting: false }]);
  expect(current()).toEqual([]);
  crossed([{ target: one, isIntersecting: true }, { target: green, isIntersecting: true }, { target: off, isIntersecting: true }]);
  expect(current()).toEqual(["3"]);
  crossed([{ target: off, isIntersecting: false }]);
  expect(current()).toEqual(["2"]);
});

test("links of the contents find headings with percent signs and letters outside ASCII", async () => {
  await open(CONTENTS);
  for (const [index, heading] of [...document.querySelectorAll("h2")].entries()) {
    crossed([{ target: heading, isIntersecting: true }]);
    expect(current()).toEqual([String(index + 1)]);
  }
});

test("a fragment that cannot be decoded does not stop the rest of the page", async () => {
  await open(`<nav class="contents"><a href="#%">x</a></nav>${SWITCH}`);
  expect(element("button").hidden).toBe(false);
});

test("long contents scroll to the current link inside their own box", async () => {
  await open(CONTENTS);
  const nav = element("nav");
  vi.spyOn(nav, "getBoundingClientRect").mockReturnValue(new DOMRect(0, 50, 200, 100));
  vi.spyOn(nav, "clientHeight", "get").mockReturnValue(100);
  vi.spyOn(nav.children[1]!, "getBoundingClientRect").mockReturnValue(new DOMRect(0, 400, 200, 20));
  crossed([{ target: document.querySelectorAll("h2")[1]!, isIntersecting: true }]);
  expect(nav.scrollTop).toBe(300);
});

// Copy buttons

const CODE = '<div class="highlight"><pre tabindex="0"><code>a = <span>1</span>\n\nb\n</code></pre></div>';

test("the copy button is a real button after the code and copies it without the last line end", async () => {
  vi.useFakeTimers();
  const writeText = vi.fn(() => Promise.resolve());
  vi.stubGlobal("navigator", { clipboard: { writeText } });
  await open(`${CODE}<div class="highlight">no code</div>`);
  const buttons = [...document.querySelectorAll("button")];
  expect(buttons.map((button) => [button.type, button.previousElementSibling?.tagName])).toEqual([["button", "PRE"]]);
  buttons[0]!.click();
  await vi.waitFor(() => expect(buttons[0]!.textContent).toBe("Copied"));
  expect(writeText).toHaveBeenCalledWith("a = 1\n\nb");
  vi.runAllTimers();
  expect(buttons[0]!.textContent).toBe("Copy");
});

test.each([[true, "Copied"], [false, "Not copied"]])("without a clipboard the code is copied by selection (works: %s)", async (works, said) => {
  vi.stubGlobal("navigator", {});
  let selected = "";
  document.execCommand = () => {
    selected = (document.activeElement as HTMLTextAreaElement).value;
    return works;
  };
  await open(CODE);
  element("button").focus();
  element("button").click();
  await vi.waitFor(() => expect(element("button").textContent).toBe(said));
  expect(selected).toBe("a = 1\n\nb");
  expect(document.querySelector("textarea")).toBeNull();
  expect(document.activeElement).toBe(element("button"));
});

// Height

test("an embedded page reports its height, and again only when it changed", async () => {
  const postMessage = vi.fn();
  vi.stubGlobal("parent", { postMessage });
  const box = vi.spyOn(root, "getBoundingClientRect").mockReturnValue(new DOMRect(0, 0, 800, 1200.4));
  await open("<p>text</p>");
  resized();
  box.mockReturnValue(new DOMRect(0, 0, 800, 300));
  resized();
  const told = postMessage.mock.calls.map(([message]) => message);
  expect(told).toEqual([1201, 300].map((height) => ({ type: "nbfolio:height", height, path: location.pathname })));
});

test("a page that is not embedded sends nothing", async () => {
  const postMessage = vi.spyOn(window, "postMessage");
  await open("<p>text</p>");
  expect(postMessage).not.toHaveBeenCalled();
});
