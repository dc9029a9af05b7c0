// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { loggedInUser, wireAccount } from "../src/account";

const FORM = '<form class="account" method="post" action="../../logout" hidden><span></span><button>Log out</button></form>';

let cookies: string;
let listening: AbortController;

beforeEach(() => {
  cookies = "";
  vi.spyOn(document, "cookie", "get").mockImplementation(() => cookies);
  listening = new AbortController();
  const add = window.addEventListener.bind(window);
  vi.stubGlobal("addEventListener", (type: string, listener: EventListener) => add(type, listener, { signal: listening.signal }));
  document.body.innerHTML = FORM;
});

afterEach(() => {
  listening.abort();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

function form(): HTMLFormElement {
  return document.querySelector("form")!;
}

test.each([
  ["nbfolio_user=ada", "ada"],
  ["a=1; nbfolio_user=Ada%20L%C3%B6we%3B%20%3Cb%3E; b=2", "Ada Löwe; <b>"],
  ["xnbfolio_user=eve; nbfolio_user=ada", "ada"],
  ["nbfolio_user=", ""],
  ["nbfolio_user=%", ""],
  ["nbfolio=secret; nbfolio_user", ""],
  ["", ""],
])("the cookies %j name %j", (sent, user) => {
  cookies = sent;
  expect(loggedInUser()).toBe(user);
});

test("who is logged in sees the name and a button that says whom it logs out", () => {
  cookies = "nbfolio_user=%3Cimg%20src%3Dx%3E";
  wireAccount();
  expect(form().hidden).toBe(false);
  expect(form().querySelector("span")!.innerHTML).toBe("&lt;img src=x&gt;");
  expect(form().querySelector("button")!.getAttribute("aria-label")).toBe("Log out <img src=x>");
});

test("without the cookie nothing shows and no request is made", () => {
  const fetched = vi.fn();
  vi.stubGlobal("fetch", fetched);
  wireAccount();
  expect(form().hidden).toBe(true);
  expect(fetched).not.toHaveBeenCalled();
});

test("where cookies are refused nothing shows", () => {
  vi.spyOn(document, "cookie", "get").mockImplementation(() => { throw new DOMException("sandboxed", "SecurityError"); });
  wireAccount();
  expect(form().hidden).toBe(true);
});

test("a page that comes back after a logout shows the button no more", () => {
  cookies = "nbfolio_user=ada";
  wireAccount();
  cookies = "";
  window.dispatchEvent(new Event("pageshow"));
  expect(form().hidden).toBe(true);
});

test("a page from the back-forward cache is asked for anew after a logout, and only then", () => {
  const reloaded = vi.fn();
  vi.stubGlobal("location", { reload: reloaded });
  cookies = "nbfolio_user=ada";
  wireAccount();
  const again = (persisted: boolean) => window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted }));
  again(true);
  cookies = "";
  again(false);
  expect(reloaded).not.toHaveBeenCalled();
  again(true);
  expect(reloaded).toHaveBeenCalledOnce();
});

test("a plain page is left alone", () => {
  cookies = "nbfolio_user=ada";
  document.body.innerHTML = "<p>text</p>";
  wireAccount();
  expect(document.body.innerHTML).toBe("<p>text</p>");
});
