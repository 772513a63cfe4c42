// Every page works without this: it only says sooner what the server says in any case.
(() => {
  "use strict";

  const form = document.querySelector("form[data-add]");
  if (form) {
    const verdict = document.querySelector("[data-verdict]");
    const stale = document.querySelector("[data-stale]");

    // A changed field voids the verdict, as it does on the server.
    form.addEventListener("input", () => {
      if (verdict && !verdict.hidden) {
        verdict.hidden = true;
        stale.hidden = false;
      }
    });

    // The other tab's URL keeps what both tabs have. No secrets: the URL is seen.
    const tabs = document.querySelectorAll("a[data-tab]");
    const common = ["name", "content_type", "endpoint", "base_content_path", "repository", "insecure_skip_verify"];
    const said = (name) => {
      const field = form.elements.namedItem(name);
      if (!field || (field.type === "checkbox" && !field.checked)) return "";
      const value = field.value.trim();
      // An endpoint with a login is refused; it doesn't go into a URL first.
      return name === "endpoint" && value.includes("@") ? "" : value;
    };
    const carry = () => {
      for (const tab of tabs) {
        const url = new URL(tab.href);
        for (const name of common) {
          const value = said(name);
          if (value) url.searchParams.set(name, value);
          else url.searchParams.delete(name);
        }
        tab.href = url.href;
      }
    };
    form.addEventListener("input", carry);
    carry();

    // The URL that results, as it is typed.
    const hint = document.querySelector("[data-content-url]");
    form.addEventListener("input", () => {
      if (!hint) return;
      const typed = said("endpoint");
      const path = form.elements.namedItem("base_content_path").value.trim();
      const endpoint = typed && !typed.includes("://") ? `https://${typed}` : typed;
      hint.textContent = path && endpoint ? `${endpoint.replace(/\/+$/, "")}/${path}` : endpoint;
      hint.closest("p").hidden = !endpoint;
    });

    // A validation takes seconds: the button says so, and isn't pressed twice, unless the answer doesn't come.
    const busy = document.querySelector("[data-busy-text]");
    let late;
    const again = () => {
      clearTimeout(late);
      delete form.dataset.sent;
      form.querySelectorAll("[aria-busy]").forEach((button) => button.removeAttribute("aria-busy"));
      busy.hidden = true;
    };
    form.addEventListener("submit", (event) => {
      const button = event.submitter;
      if (form.dataset.sent) {
        event.preventDefault();
        return;
      }
      form.dataset.sent = "yes";
      late = setTimeout(again, 60000);
      if (button?.dataset.busy) {
        button.setAttribute("aria-busy", "true");
        busy.textContent = button.dataset.busy;
        busy.hidden = false;
      }
    });
    // Back from another page, it can be sent again.
    addEventListener("pageshow", again);
    // Escape stops a browser's loading.
    addEventListener("keydown", (event) => event.key === "Escape" && again());
  }

  // One open menu at a time; Escape and a click elsewhere close it.
  const menus = () => [...document.querySelectorAll("details.menu")];
  const close = (except) => menus().forEach((menu) => menu !== except && menu.removeAttribute("open"));
  document.addEventListener("click", (event) => close(event.target.closest("details.menu")));

  // A table that is behind takes over the rows that differ. Markup is made by the browser's own parser of answers: no script makes any.
  const page = () => new Promise((ready, fail) => {
    const request = new XMLHttpRequest();
    request.open("GET", location.href);
    request.responseType = "document";
    request.onload = () => (request.status === 200 ? ready(request.response) : fail());
    request.onerror = fail;
    request.send();
  });
  const inUse = (row) => row.contains(document.activeElement) || row.querySelector("details[open]");
  const keyOf = (row) => row.querySelector("a")?.getAttribute("href");
  const takeOver = (old, fresh) => {
    const rows = new Map([...old.rows].map((row) => [keyOf(row), row]));
    const kept = new Set([...fresh.rows].map(keyOf));
    if ([...old.rows].some((row) => inUse(row) && !kept.has(keyOf(row)))) return false;
    const next = [...fresh.rows].map((row) => {
      const known = rows.get(keyOf(row));
      if (!known || (!known.isEqualNode(row) && !inUse(known))) return document.importNode(row, true);
      // A row in use keeps the cell that is in use.
      [...known.cells].forEach((cell, at) => {
        if (row.cells[at] && !inUse(cell) && !cell.isEqualNode(row.cells[at])) cell.replaceWith(document.importNode(row.cells[at], true));
      });
      return known;
    });
    // Rows that stay aren't moved: the one in use keeps the focus.
    [...old.rows].forEach((row) => next.includes(row) || row.remove());
    next.forEach((row, at) => row === old.rows[at] || old.insertBefore(row, old.rows[at] ?? null));
    return true;
  };
  const behind = document.querySelector("[data-since]");
  const follow = async () => {
    for (;;) {
      const answer = await fetch(`${behind.dataset.changes}since=${encodeURIComponent(behind.dataset.since)}`);
      if (answer.status === 204) {
        // An API server that ends watches at once must not be asked without a pause.
        await new Promise((done) => setTimeout(done, 300));
        continue;
      }
      if (answer.status === 429) {
        // Too many tables are open; another one may be closed by then.
        await new Promise((done) => setTimeout(done, 30_000));
        continue;
      }
      if (answer.status !== 200) return;
      const fresh = await page();
      const [old, now] = [document, fresh].map((one) => one.querySelector("main tbody"));
      const since = fresh.querySelector("[data-since]")?.dataset.since;
      // An empty table, or a row in use that is gone: the page has another form.
      if (!old || !now || !since || !takeOver(old, now)) {
        if (document.activeElement === document.body && !document.querySelector("details.menu[open]")) location.reload();
        behind.hidden = false;
        return;
      }
      behind.dataset.since = since;
      await new Promise((ready) => setTimeout(ready, 300));
    }
  };
  if (behind) follow().catch(() => {});

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = menus().find((menu) => menu.open);
    close();
    open?.querySelector("summary").focus();
  });
})();
