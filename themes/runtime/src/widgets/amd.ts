/** A define() for widgets that are published as AMD files: enough for what bundlers write, not a package loader. */

const LOADING_MS = 30_000;
/** How long a failure is remembered: a page may have hundreds of widgets of a module that is missing. */
const FAILED_MS = 10_000;

type Factory = (...dependencies: unknown[]) => unknown;

interface Definition {
  dependencies: string[];
  factory: Factory;
}

const modules = new Map<string, Promise<any>>();
let last: Promise<unknown> = Promise.resolve();

/** The module that the script at `url` defines; `load` gives what it depends on. */
export function loadAmd(url: string, load: (name: string) => Promise<unknown>): Promise<any> {
  const found = modules.get(url);
  if (found) return found;
  // One script after the other, so that what is defined belongs to the script that is loading.
  const defined = last.then(() => definitionOf(url));
  last = defined.catch(() => {});
  const made = defined.then((definition) => instantiate(url, definition, load));
  modules.set(url, made);
  made.catch(() => setTimeout(() => modules.delete(url), FAILED_MS));
  return made;
}

async function instantiate(url: string, { dependencies, factory }: Definition, load: (name: string) => Promise<unknown>): Promise<unknown> {
  const module = { id: url, uri: url, exports: {} };
  const given = new Map<string, unknown>([["module", module], ["exports", module.exports]]);
  const loaded = await Promise.all(dependencies.map((name) => given.get(name) ?? load(name)));
  return factory(...loaded) ?? module.exports;
}

/** Runs the script. The global define() is there only meanwhile: other scripts of the page would register with it. */
async function definitionOf(url: string): Promise<Definition> {
  const globals = globalThis as { define?: unknown };
  const before = Object.getOwnPropertyDescriptor(globals, "define");
  let definition: Definition | undefined;
  globals.define = Object.assign((...all: unknown[]) => (definition = read(all)), { amd: {} });
  // Bundles of the classic notebook find the files beside them by this.
  document.body.dataset["baseUrl"] ??= new URL("../../", url).href;
  try {
    await run(url);
  } finally {
    if (before) Object.defineProperty(globals, "define", before);
    else delete globals.define;
  }
  if (!definition) throw new Error(`${url} defines no module`);
  return definition;
}

/** define(name?, dependencies?, factory), where the factory may be the module itself. */
function read(all: unknown[]): Definition {
  const factory = all.at(-1);
  return { dependencies: all.slice(0, -1).find(Array.isArray) ?? [], factory: typeof factory === "function" ? (factory as Factory) : () => factory };
}

function run(url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    const finish = (problem?: string): void => {
      clearTimeout(timer);
      script.remove();
      if (problem) reject(new Error(`${url} ${problem}`));
      else resolve();
    };
    const timer = setTimeout(() => finish("takes too long"), LOADING_MS);
    script.onload = () => finish();
    script.onerror = () => finish("could not be loaded");
    script.src = url;
    document.head.append(script);
  });
}
