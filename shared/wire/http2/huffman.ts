/**
 * Bits of the code of each octet, and last of the end-of-string symbol. The code is canonical: with the symbols sorted by
 * length and then by value, each code is the one before it plus one, so the lengths say everything.
 *
 * @source RFC 7541 appendix B
 */
// biome-ignore format: a table
const codeBits = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
  10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
  15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
  7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
  6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
  7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
  23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
  23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
  26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
  28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
  26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const endOfString = 256;
/** Padding is a beginning of the end-of-string code, all ones, and shorter than an octet. @source RFC 7541 section 5.2 */
const paddingBitsMax = 7;

/*
 * The code as an automaton that reads four bits at a time. A state is an inner node of the code tree; since no code is
 * shorter than five bits, a step yields one octet at most. An entry holds the next state in its low byte, then the octet,
 * then whether there is one; -1 means that the bits are no code.
 */
const stateMask = 0xff;
const octetShift = 8;
const yieldsOctet = 1 << 16;
const { steps, acceptedStates } = buildAutomaton();

/**
 * Measures what Huffman-coded octets decode to.
 *
 * @returns Length in octets, or -1 if the octets are not a valid coding: a code that does not exist, the end-of-string
 *   symbol, or padding that is too long or not all ones.
 */
export function measureHuffman(coded: Buffer, start: number, end: number): number {
  let state = 0;
  let lengthBytes = 0;
  for (let at = start; at < end; at++) {
    const octet = coded[at] as number;
    const high = steps[(state << 4) | (octet >> 4)] as number;
    if (high < 0) {
      return -1;
    }
    const low = steps[((high & stateMask) << 4) | (octet & 0xf)] as number;
    if (low < 0) {
      return -1;
    }
    lengthBytes += (high >> 16) + (low >> 16);
    state = low & stateMask;
  }
  return acceptedStates[state] === 1 ? lengthBytes : -1;
}

/** Decodes Huffman-coded octets that {@link measureHuffman} found valid, as Latin-1 text. */
export function decodeHuffman(coded: Buffer, start: number, end: number): string {
  const decoded = Buffer.allocUnsafe(Math.ceil(((end - start) * 8) / 5));
  let length = 0;
  let state = 0;
  for (let at = start; at < end; at++) {
    const octet = coded[at] as number;
    for (const bits of [octet >> 4, octet & 0xf]) {
      const step = steps[(state << 4) | bits] as number;
      if ((step & yieldsOctet) !== 0) {
        decoded[length++] = (step >> octetShift) & 0xff;
      }
      state = step & stateMask;
    }
  }
  return decoded.toString("latin1", 0, length);
}

interface TreeNode {
  readonly children: [TreeNode | number | undefined, TreeNode | number | undefined];
  readonly state: number;
}

function buildAutomaton(): { steps: Int32Array; acceptedStates: Uint8Array } {
  const nodes = buildTree();
  const steps = new Int32Array(nodes.length << 4);
  for (const node of nodes) {
    for (let bits = 0; bits < 16; bits++) {
      steps[(node.state << 4) | bits] = walkFourBits(nodes, node, bits);
    }
  }
  const acceptedStates = new Uint8Array(nodes.length);
  let node: TreeNode | number | undefined = nodes[0];
  for (let depth = 0; depth <= paddingBitsMax && typeof node === "object"; depth++) {
    acceptedStates[node.state] = 1;
    node = node.children[1];
  }
  return { steps, acceptedStates };
}

function buildTree(): TreeNode[] {
  const root: TreeNode = { children: [undefined, undefined], state: 0 };
  const nodes = [root];
  const symbols = codeBits.map((bits, symbol) => ({ bits, symbol }));
  symbols.sort((left, right) => left.bits - right.bits || left.symbol - right.symbol);
  let code = 0;
  let codeLength = 0;
  for (const { bits, symbol } of symbols) {
    code <<= bits - codeLength;
    codeLength = bits;
    let node = root;
    for (let bit = bits - 1; bit > 0; bit--) {
      const side = ((code >> bit) & 1) as 0 | 1;
      let child = node.children[side];
      if (typeof child !== "object") {
        child = { children: [undefined, undefined], state: nodes.length };
        nodes.push(child);
        node.children[side] = child;
      }
      node = child;
    }
    node.children[(code & 1) as 0 | 1] = symbol;
    code++;
  }
  return nodes;
}

function walkFourBits(nodes: readonly TreeNode[], from: TreeNode, bits: number): number {
  let node = from;
  let found = 0;
  for (let bit = 3; bit >= 0; bit--) {
    const child = node.children[((bits >> bit) & 1) as 0 | 1];
    if (child === undefined || child === endOfString) {
      return -1;
    }
    if (typeof child === "number") {
      found = yieldsOctet | (child << octetShift);
      node = nodes[0] as TreeNode;
    } else {
      node = child;
    }
  }
  return found | node.state;
}
