/**
 * The log-out button of full pages. It shows for readers who logged in at the server of the page: that sets a cookie with
 * their name. Static hosts set none, and files have none, so there nothing shows.
 */
const USER_COOKIE = "nbfolio_user";

/** The name of the reader who is logged in, "" when nobody is. */
export function loggedInUser(): string {
  try {
    const pairs = document.cookie.split(";").map((pair) => pair.trim().split("=", 2));
    return decodeURIComponent(pairs.find(([name]) => name === USER_COOKIE)?.[1] ?? "");
  } catch {
    return ""; // a sandboxed frame may not ask for cookies; a stray % in a name that is not ours
  }
}

function showAccount(): void {
  const user = loggedInUser();
  for (const form of document.querySelectorAll<HTMLFormElement>("form.account")) {
    form.hidden = !user;
    form.querySelector("span")!.textContent = user;
    const button = form.querySelector("button")!;
    button.title = `Log out ${user}`;
    button.setAttribute("aria-label", button.title);
  }
}

/**
 * Shows the button now, and looks again when the page comes back from the back-forward cache: what was shown to a reader who
 * has logged out since is asked for anew, so that the server decides.
 */
export function wireAccount(): void {
  showAccount();
  const reader = loggedInUser();
  addEventListener("pageshow", (event) => {
    showAccount();
    if (event.persisted && reader && loggedInUser() !== reader) location.reload();
  });
}
