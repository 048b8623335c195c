// The numbers of an HBONE connection, each with its unit and reason.

/** Bytes of one stream we take before we must grant more; grows while the application takes them fast. */
export const STREAM_WINDOW_START = 262_144;
/** An application that takes half a window in less time gets twice the window: it is the window that slows it. */
export const GROW_WITHIN_MS = 100;
/** Where growth ends, and what Istio's ztunnel grants from the start. */
export const STREAM_WINDOW_MAX = 4_194_304;
/** Bytes of all streams together; granted back as they arrive, since each stream is bounded by itself. */
export const CONNECTION_WINDOW = 16_777_216;
/** Once this much waits for slow applications in one tunnel, the connection window is no longer refilled. */
export const CONNECTION_BACKLOG_MAX = 33_554_432;
/** Largest frame we accept; DATA is handed on as it arrives, so no buffer has this size. */
export const MAX_FRAME_SIZE = 1_048_576;
/** Largest frame that is not DATA or HEADERS; all of them are far smaller. */
export const MAX_CONTROL_FRAME = 16_384;
/** HEADERS plus CONTINUATION, on the wire and decoded. */
export const MAX_HEADER_BLOCK = 65_536;
export const MAX_CONTINUATIONS = 16;
/** Streams a peer may have open on one connection. */
export const MAX_CONCURRENT_STREAMS = 200;
/** What we assume a peer allows until its SETTINGS arrive. */
export const ASSUMED_PEER_STREAMS = 100;
/** Largest DATA frame we send, if the peer allows it: one header per 64 KiB. */
export const MAX_SEND_FRAME = 65_536;
/** Both ends: first PING after this time, and then this long after each answer. */
export const PING_INTERVAL_MS = 10_000;
/** A peer silent this long after a PING is dead. */
export const PING_TIMEOUT_MS = 20_000;
export const HANDSHAKE_TIMEOUT_MS = 10_000;
export const CONNECT_TIMEOUT_MS = 10_000;
/** Client: how long a CONNECT may go without an answer. A server may take 10 s to connect to its application. */
export const CONNECT_ANSWER_S = 15;
/** A draining server waits this long for the PING behind its first GOAWAY before it names its last stream. */
export const DRAIN_PING_MS = 1_000;
/** A CONNECT without an answer this long after a GOAWAY is tried elsewhere: Istio's server may never answer it. */
export const GOAWAY_ANSWER_MS = 1_000;
/** After our last byte the peer gets this long to read it and to close. */
export const LINGER_MS = 1_000;
/** What a peer may still send meanwhile; it is not looked at. */
export const LINGER_BYTES = 4_194_304;
/**
 * WINDOW_UPDATE, and frames about streams that have just ended, come with traffic: each payload byte we send and
 * each stream pays for some. A peer that sends more of them draws on the same budget as for PING.
 */
export const FRAME_COST = 128;
export const CREDIT_PER_STREAM = 8 * FRAME_COST;
export const CREDIT_PER_DATA_FRAME = 2 * FRAME_COST;
export const CREDIT_MAX = 131_072 * FRAME_COST;
/** A turn ends early after so many frames: tiny ones cost as much as large ones. */
export const FRAMES_PER_TURN = 2_048;
/**
 * So does one after so many requests: each costs a policy decision and a connect(2), which takes over a millisecond
 * when a client has used up most source ports towards one destination.
 */
export const REQUESTS_PER_TURN = 16;
/**
 * Budgets of one peer workload (identity and address), over all its tunnels, running and gone: whoever is cut for a
 * flood and dials again finds them empty, and gets `perSecond` of them back. All are refilled within 20 s.
 */
export interface BudgetSize {
  readonly burst: number;
  readonly perSecond: number;
}
/** PING, SETTINGS, PRIORITY, unknown and empty frames: microseconds each. A hundred idle tunnels send ten PINGs a second. */
export const CONTROL_BUDGET: BudgetSize = { burst: 500, perSecond: 100 };
/**
 * Requests that the peer resets before their answer, or makes us reset: each has cost a policy decision and a
 * connect(2), some 100 µs, so the rate is two percent of a thread. Applications that give up early send a few.
 */
export const RESET_BUDGET: BudgetSize = { burst: 1_024, perSecond: 200 };
/**
 * Requests denied by policy, or for what this pod is not: each costs the search for the nearest rule, a log line and two
 * events, some 50 µs. An honest client behind a policy may try 1000 times a second for ever, in 64 loops without a
 * pause for a second or two; an application that only now lost its permission is not cut off from its other ports.
 */
export const DENIAL_BUDGET: BudgetSize = { burst: 4_096, perSecond: 1_000 };
/** SETTINGS, its acknowledgement, a window change in it, GOAWAY: what every tunnel brings costs nothing. */
export const FRAMES_OF_A_CONNECTION = 4;
/** A CONNECT of ours has some 500 bytes; a larger block than this draws on the budget for control frames. */
export const FREE_HEADER_BLOCK = 4_096;
/** Once this much of one peer waits for slow applications, those of its tunnels that wait too are no longer refilled. */
export const PEER_BACKLOG_MAX = 67_108_864;
/** What may be under way to us from one peer: the connection windows of all its tunnels, and what waits already. */
export const PEER_WINDOWS_MAX = 268_435_456;
/** A tunnel's share of what is left of that: all of CONNECTION_WINDOW for the first, less for each further one. */
export const PEER_WINDOW_SHARE = 16;
/** Peers remembered without a tunnel; the one gone longest makes room. */
export const PEERS_REMEMBERED = 4_096;
/** Longer than any budget takes to refill. */
export const PEER_MEMORY_MS = 60_000;
