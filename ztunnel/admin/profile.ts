// CPU and heap profiles of the main thread, in the formats of Chrome's developer tools. The inspector is
// loaded when first asked for.
import { setTimeout as delay } from "node:timers/promises";
import type { Session } from "node:inspector/promises";
import type { HttpReply, HttpRequest, Route } from "#lib/obs/http-server.ts";

const DEFAULT_SECONDS = 10;
const DEFAULT_HZ = 100;

let isProfiling = false;
/** Open while heap sampling is active. */
let heapSession: Session | null = null;

async function openSession(): Promise<Session> {
  const { Session } = await import("node:inspector/promises");
  const session = new Session();
  session.connect();
  return session;
}

export const cpuProfileRoute: Route = {
  handle: async ({ url, signal }: HttpRequest): Promise<HttpReply> => {
    const seconds = numberIn(url, "seconds", DEFAULT_SECONDS, 1, 300);
    const hz = numberIn(url, "frequency", DEFAULT_HZ, 1, 1_000);
    if (seconds === null) return refuse("seconds must be a whole number from 1 to 300");
    if (hz === null) return refuse("frequency must be a whole number from 1 to 1000");
    if (isProfiling) return { status: 409, body: "A profile is being taken already\n" };
    isProfiling = true;
    try {
      const session = await openSession();
      try {
        await session.post("Profiler.enable");
        await session.post("Profiler.setSamplingInterval", { interval: 1_000_000 / hz });
        await session.post("Profiler.start");
        await delay(seconds * 1_000, undefined, { signal }).catch(() => {}); // client left: stop early
        const { profile } = await session.post("Profiler.stop");
        return file(JSON.stringify(profile), "ztunnel.cpuprofile");
      } finally {
        session.disconnect();
      }
    } finally {
      isProfiling = false;
    }
  },
};

export const heapActivationRoute: Route = {
  handle: async ({ url }: HttpRequest): Promise<HttpReply> => {
    const activate = url.searchParams.get("activate");
    if (activate !== "true" && activate !== "false")
      return refuse("activate must be true or false");
    if (activate === "true" && heapSession === null) {
      heapSession = await openSession();
      await heapSession.post("HeapProfiler.startSampling");
    } else if (activate === "false" && heapSession !== null) {
      heapSession.disconnect(); // ends sampling
      heapSession = null;
    }
    return { body: `heap profiling is ${heapSession === null ? "off" : "on"}\n` };
  },
};

export const heapProfileRoute: Route = {
  handle: async (): Promise<HttpReply> => {
    if (heapSession === null)
      return refuse("heap profiling is off: /debug/pprof/heap/profiling?activate=true");
    const { profile } = await heapSession.post("HeapProfiler.getSamplingProfile");
    return file(JSON.stringify(profile), "ztunnel.heapprofile");
  },
};

function file(body: string, name: string): HttpReply {
  return {
    type: "application/json",
    headers: { "content-disposition": `attachment; filename="${name}"` },
    body,
  };
}

function refuse(problem: string): HttpReply {
  return { status: 400, body: `${problem}\n` };
}

function numberIn(
  url: URL,
  name: string,
  fallback: number,
  min: number,
  max: number,
): number | null {
  const text = url.searchParams.get(name);
  if (text === null) return fallback;
  const number = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  return number >= min && number <= max ? number : null;
}
