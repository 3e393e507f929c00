/** A message of any type, kept as it came, byte for byte. */
export interface AnyValue {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}
