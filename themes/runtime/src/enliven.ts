/** Decides whether this page has something for the live modules to do, and loads them when it has. */
const STORED = ".data.widget, .data.chart";
const CODE = ".nb[data-cells]";
const NEAR = "1000px";
/** What a server that can start kernels says of itself with every page. */
const KERNELS_HEADER = "Nbfolio-Kernels";

const here = (document.currentScript as HTMLScriptElement | null)?.src ?? "";

/** Browsers load no modules from the disk: there the page stays as it is stored, and no attempt leaves a trace in the console. */
export function wireLive(): void {
  if (!here || !/^https?:$/.test(location.protocol)) return;
  drawWhenNear();
  const { live } = document.body.dataset;
  if ((live === "button" || live === "auto") && document.querySelector(CODE)) void enlivenWhereKernelsAre(live === "auto");
}

async function enlivenWhereKernelsAre(auto: boolean): Promise<void> {
  // The page's own address: a static host has it too, so that no request fails there.
  const answer = await fetch(location.href, { method: "HEAD", cache: "no-store" }).catch(() => null);
  await answer?.text().catch(() => {}); // browsers count an answer that nobody reads as one that failed
  if (!answer?.headers.has(KERNELS_HEADER)) return;
  const modules = await load();
  modules?.enliven(new URL("..", here), auto);
}

/** Stored widgets and charts are drawn by what loads when the reader comes near the first of them. */
function drawWhenNear(): void {
  const places = document.querySelectorAll(STORED);
  if (!places.length) return;
  const observer = new IntersectionObserver(
    (entries) => {
      if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
      observer.disconnect();
      void load().then((modules) => modules?.drawStored());
    },
    { rootMargin: NEAR },
  );
  for (const place of places) observer.observe(place);
}

async function load(): Promise<typeof import("./live") | null> {
  try {
    return (await import(new URL(__LIVE_JS__, here).href)) as typeof import("./live");
  } catch {
    return null; // a content security policy or an old browser; the page is complete without
  }
}
