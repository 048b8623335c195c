// Nominal types: a string or object that only its parser can make.
declare const brand: unique symbol;

/** `T` that carries the promise `Name`; minted only by the function that has just checked it. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
