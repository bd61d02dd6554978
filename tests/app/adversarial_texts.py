"""Texts that tell one tokenizer from another, the same for the same seed."""
import random
import unicodedata

WORDS = ("Hello about the world na\u00efve Stra\u00dfe don't I'M we'LL O'Donnell 12345 3.14 x==y foo_bar "
         "https://a.b/c?d=e \u041f\u0440\u0438\u0432\u0435\u0442 \u05e9\u05dc\u05d5\u05dd "
         "\u4f60\u597d\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uff8a\uff9d\uff76\uff78 "
         "\uff76\uff9e\uff77\uff9e \u00bd \ufb01 \u2103 \u2163 \u0130stanbul \u01c5 \u0391\u03a3").split()
SPACES = (" ", "  ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200b",
          "\u180e", "\ufeff", "\u000b", "\u000c")
EMOJI = (0x1F600, 0x1F468, 0x200D, 0x1F469, 0xFE0F, 0x2764, 0x1F3FD, 0x1F1E9, 0x1F1EA, 0x20E3)


def is_left_out(code):
    """Python's tables are those of Unicode 14 or later; what came after 14 differs by library."""
    return unicodedata.category(chr(code)) in ("Cn", "Cs", "Co")


class AdversarialTexts:
    def __init__(self, seed, tokens):
        self.random = random.Random(seed)
        self.tokens = tokens or ["<x>"]
        self.characters = [code for code in range(1, 0x30000)
                           if not is_left_out(code) and assigned_before_unicode_15(code)]
        self.marks = [code for code in self.characters
                      if unicodedata.category(chr(code)).startswith("M")]

    def some(self, codes, most):
        return "".join(chr(self.random.choice(codes)) for _ in range(self.random.randint(1, most)))

    def part(self):
        pick = self.random
        kind = pick.randrange(12)
        if kind < 2:
            return pick.choice(WORDS)
        if kind == 2:
            return pick.choice(SPACES) * pick.randint(1, 4)
        if kind == 3:
            return self.some(self.characters, 6)
        if kind == 4:
            return self.some(self.marks, 3)
        if kind == 5:
            return self.some(EMOJI, 4)
        if kind == 6:
            return self.some(range(0, 0x20), 3)
        if kind == 7:
            return "\u2581" * pick.randint(1, 3)
        if kind < 10:
            token = pick.choice(self.tokens)
            return token if pick.random() < 0.8 else token[:-1]
        if kind == 10:
            return pick.choice("ab!?.,'\"-_/\\=(){}<>|0 \n") * pick.choice((1, 2, 3, 7, 16, 100))
        return self.some(range(0x20, 0x7F), 10)

    def text(self):
        return "".join(self.part() for _ in range(self.random.randint(0, 10)))

    def texts(self, count):
        return [self.text() for _ in range(count)]

    def id_lists(self, ids, count):
        return [self.random.choices(ids, k=self.random.randint(0, 25)) for _ in range(count)]


# Assigned by Unicode 15, 15.1 and 16 below U+30000: newer Pythons know these, older tables do not.
YOUNG = ((0x0897, 0x0897), (0x0CF3, 0x0CF3), (0x0ECE, 0x0ECE), (0x1C89, 0x1C8A), (0x2FFC, 0x2FFF),
         (0x31E3, 0x31E5), (0x31EF, 0x31EF), (0xA7CB, 0xA7DC), (0x105C0, 0x105F3),
         (0x10D40, 0x10D8F), (0x10EC2, 0x10EC4), (0x10EFC, 0x10EFF), (0x1123F, 0x11241),
         (0x11380, 0x113E2), (0x116D0, 0x116E3), (0x11B00, 0x11BF9), (0x11F00, 0x11F5A),
         (0x1342F, 0x1342F), (0x13439, 0x143FA), (0x16100, 0x16139), (0x16D40, 0x16D79),
         (0x18CFF, 0x18CFF), (0x1B132, 0x1B155), (0x1CC00, 0x1CEB3), (0x1D2C0, 0x1D2D3),
         (0x1DF25, 0x1DF2A), (0x1E030, 0x1E08F), (0x1E4D0, 0x1E4F9), (0x1E5D0, 0x1E5FF),
         (0x1F6DC, 0x1F6DC), (0x1F774, 0x1F77F), (0x1F7D9, 0x1F7D9), (0x1F8B2, 0x1F8C1),
         (0x1FA75, 0x1FA77), (0x1FA87, 0x1FA8F), (0x1FAAD, 0x1FAAF), (0x1FABB, 0x1FABF),
         (0x1FAC6, 0x1FACF), (0x1FADA, 0x1FADF), (0x1FAE8, 0x1FAEF), (0x1FAF7, 0x1FAF8),
         (0x1FBFA, 0x1FBFF), (0x2B739, 0x2B739), (0x2EBF0, 0x2EE5D))


def assigned_before_unicode_15(code):
    return not any(first <= code <= last for first, last in YOUNG)
