// What the admin ports of both proxies answer alike: the page of links at `/`, and `POST /quitquitquit`.
import type { Route } from "./http-server.ts";

/** `what` is HTML. */
export type AdminIndex = readonly (readonly [path: string, what: string])[];

export function indexRoute(program: string, index: AdminIndex): Route {
  const items = index.map(([path, what]) => `<li><a href="${path}">${path}</a> ${what}</li>`);
  const body = `<!doctype html>\n<title>${program}</title>\n<h1>${program}</h1>\n<ul>\n${items.join("\n")}\n</ul>\n`;
  return { handle: () => ({ type: "text/html; charset=utf-8", body }) };
}

/** Answers before `shutdown` is called. */
export function quitRoute(shutdown: () => void): Route {
  return {
    methods: ["POST"],
    handle: () => {
      setImmediate(shutdown);
      return { body: "shutdown now\n" };
    },
  };
}
