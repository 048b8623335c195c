// Declarations of the C functions the mesh calls, in the order of their headers; nothing else here.
// Only this file loads the native interface. Wrappers beside it own checks, layouts and lifetimes.
// Pointers are numbers (user-space addresses are below 2^47), so that offsets cost no allocation.
import koffi from "koffi";

const self = koffi.load(null);

/* eslint-disable typescript/no-unsafe-type-assertion -- the one place that types native functions */
const declare = <F>(definition: string): F => self.func(definition) as unknown as F;

// errno(3)
const errnoLocation = declare<() => number>("uintptr_t __errno_location()");

// socket(2), bind(2), listen(2), accept(2), connect(2)
export const socket = declare<(domain: number, type: number, protocol: number) => number>(
  "int socket(int domain, int type, int protocol)",
);
export const bind = declare<(fd: number, addr: number, length: number) => number>(
  "int bind(int fd, uintptr_t addr, uint32_t length)",
);
export const listen = declare<(fd: number, backlog: number) => number>(
  "int listen(int fd, int backlog)",
);
export const accept4 = declare<(fd: number, addr: number, length: number, flags: number) => number>(
  "int accept4(int fd, uintptr_t addr, uintptr_t length, int flags)",
);
export const connect = declare<(fd: number, addr: number, length: number) => number>(
  "int connect(int fd, uintptr_t addr, uint32_t length)",
);
export const getsockname = declare<(fd: number, addr: number, length: number) => number>(
  "int getsockname(int fd, uintptr_t addr, uintptr_t length)",
);
export const setsockopt = declare<
  (fd: number, level: number, name: number, value: number, length: number) => number
>("int setsockopt(int fd, int level, int name, uintptr_t value, uint32_t length)");
export const getsockopt = declare<
  (fd: number, level: number, name: number, value: number, length: number) => number
>("int getsockopt(int fd, int level, int name, uintptr_t value, uintptr_t length)");
export const shutdown = declare<(fd: number, how: number) => number>(
  "int shutdown(int fd, int how)",
);
// sendmsg(2), recvmsg(2)
export const sendmsg = declare<(fd: number, message: number, flags: number) => number>(
  "int64_t sendmsg(int fd, uintptr_t message, int flags)",
);
export const recvmsg = declare<(fd: number, message: number, flags: number) => number>(
  "int64_t recvmsg(int fd, uintptr_t message, int flags)",
);
// unistd.h
export const read = declare<(fd: number, buffer: number, length: number) => number>(
  "int64_t read(int fd, uintptr_t buffer, size_t length)",
);
export const write = declare<(fd: number, buffer: number, length: number) => number>(
  "int64_t write(int fd, uintptr_t buffer, size_t length)",
);
export const close = declare<(fd: number) => number>("int close(int fd)");
// sched.h: setns(2)
export const setns = declare<(fd: number, type: number) => number>("int setns(int fd, int type)");
// sys/epoll.h
export const epollCreate1 = declare<(flags: number) => number>("int epoll_create1(int flags)");
export const epollCtl = declare<(ep: number, op: number, fd: number, event: number) => number>(
  "int epoll_ctl(int ep, int op, int fd, uintptr_t event)",
);
export const epollWait = declare<
  (ep: number, events: number, max: number, timeoutMs: number) => number
>("int epoll_wait(int ep, uintptr_t events, int max, int timeoutMs)");
// sys/eventfd.h
export const eventfd = declare<(initial: number, flags: number) => number>(
  "int eventfd(unsigned int initial, int flags)",
);
// sys/resource.h
export const getrlimit = declare<(resource: number, limit: number) => number>(
  "int getrlimit(int resource, uintptr_t limit)",
);
export const setrlimit = declare<(resource: number, limit: number) => number>(
  "int setrlimit(int resource, uintptr_t limit)",
);
// malloc.h
export const mallocTrim = declare<(pad: number) => number>("int malloc_trim(size_t pad)");

/** Data address of a buffer. The caller keeps the buffer alive for as long as C may use it. */
export function addressOf(view: ArrayBufferView): number {
  return Number(koffi.address(view));
}

/** A view of C memory; valid only as long as C keeps that memory. */
export function viewOf(address: number, length: number): ArrayBuffer {
  return koffi.view(BigInt(address), length);
}

/** Declares an OpenSSL function of the node binary (tls-raw.ts lists them). */
export function declareFunction<F>(definition: string): F {
  return declare<F>(definition);
}

/** Registers a callback that C may call on this thread while one of our calls is running. */
export function registerCallback(
  prototype: string,
  callback: (...args: number[]) => number,
): number {
  const type = koffi.pointer(koffi.proto(prototype));
  return Number(koffi.register(callback, type));
}

/**
 * Calls back on the event loop whenever `fd` is readable, until the returned function is called.
 * Through setImmediate: koffi's own callback runs no microtasks, so a promise settled in it would
 * wait for the next timer.
 */
export function pollReadable(fd: number, callback: () => void): () => void {
  let isOpen = true;
  const handle = koffi.node.poll(fd, { readable: true }, () => {
    setImmediate(() => {
      if (isOpen) callback();
    });
  });
  return () => {
    isOpen = false;
    handle.close();
  };
}

/** This thread's errno, readable without a native call right after a failed one. */
export const errno = new Int32Array(viewOf(errnoLocation(), 4));
