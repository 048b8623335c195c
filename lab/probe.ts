// Connections that the lab's own process makes from inside a node: kubelet probes and admin requests.
import { request } from "node:http";
import { Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { isIpv6, parseIp } from "#lib/net/ip.ts";
import { errnoName } from "#lib/sys/errors.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { connectFd, tcpSocket } from "#lib/sys/socket.ts";
import { LabError } from "./errors.ts";
import type { Netns } from "./netns.ts";

const EISCONN = 106;
const EALREADY = 114;
const POLL_MS = 5;
const RETRY_MS = 25;

/**
 * Connects to a TCP port from inside `netns`. The caller owns the socket.
 * @throws {LabError} `NOT_READY` when refused, unreachable or not within `timeoutMs`
 */
export async function connectFrom(
  netns: Netns,
  ip: string,
  port: number,
  timeoutMs: number,
): Promise<Socket> {
  const address = parseIp(ip);
  const fd = tcpSocket({ family: isIpv6(address) ? "ipv6" : "ipv4", netns: netns.fd });
  try {
    const deadline = Date.now() + timeoutMs;
    let errno = connectFd(fd, { ip: address, port });
    // asking again tells how it went: connect(2), EALREADY and EISCONN
    while (errno === 0 || errno === EALREADY) {
      errno = connectFd(fd, { ip: address, port });
      if (errno === 0) errno = EISCONN;
      if (errno !== EALREADY) break;
      if (Date.now() > deadline) throw new Error(`no answer within ${timeoutMs} ms`);
      await sleep(POLL_MS);
    }
    if (errno !== EISCONN) throw new Error(errnoName(errno));
    return new Socket({ fd, readable: true, writable: true });
  } catch (cause) {
    closeFd(fd);
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new LabError(
      "NOT_READY",
      `Cannot connect from ${netns.name} to ${ip} port ${port}: ${why}`,
      { cause },
    );
  }
}

/** Tries until the port accepts, the time is over or `isOver`. @throws {LabError} with the last reason */
export async function waitForPort(
  netns: Netns,
  ip: string,
  port: number,
  timeoutMs: number,
  isOver: () => boolean = () => false,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      (await connectFrom(netns, ip, port, Math.max(RETRY_MS, deadline - Date.now()))).destroy();
      return;
    } catch (error) {
      if (isOver() || Date.now() + RETRY_MS > deadline) throw error;
      await sleep(RETRY_MS);
    }
  }
}

/** Tries until a GET of `path` is answered with 200, the time is over or `isOver`. @throws {LabError} with the last reason */
export async function waitForPath(
  netns: Netns,
  ip: string,
  port: number,
  path: string,
  timeoutMs: number,
  isOver: () => boolean = () => false,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const got = await get(await connectFrom(netns, ip, port, timeoutMs), path, timeoutMs);
    if (got.status === 200) return;
    if (isOver() || Date.now() + RETRY_MS > deadline)
      throw new LabError("NOT_READY", `GET ${path}: ${got.status} ${got.body.trim()}`);
    await sleep(RETRY_MS);
  }
}

/** Takes the socket. */
function get(
  socket: Socket,
  path: string,
  timeoutMs: number,
): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { createConnection: () => socket, path, timeout: timeoutMs },
      (answer) => {
        text(answer).then((body) => resolve({ status: answer.statusCode ?? 0, body }), reject);
      },
    );
    asked.once("error", reject);
    asked.once("timeout", () => asked.destroy(new Error(`no answer within ${timeoutMs} ms`)));
    asked.end();
  });
}
