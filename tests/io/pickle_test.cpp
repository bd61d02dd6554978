#include "io/pickle.h"

#include "io/torch_globals.h"
#include "support.h"

namespace halftone {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

constexpr const char* kSource = "'x/.metadata'";

std::string refused(std::string bytes, const PickleRules& rules = metadata_rules()) {
  const std::string message = test::message_of<InputError>(
      [&] { const PickleDocument document(std::move(bytes), rules, kSource); });
  EXPECT_THAT(message, HasSubstr(kSource));
  return message;
}

std::string word32(uint32_t value) {
  return test::length_word(value).substr(0, 4);
}

TEST(Pickle, ReadsWhatPythonWrites) {
  // {"a": [1, -2, 2.5, None, True], "b": (b"x", 70000)} in protocol 4.
  const std::string bytes =
      "\x80\x04\x95\x2e\0\0\0\0\0\0\0}\x94(\x8c\x01"
      "a\x94]\x94(K\x01J\xfe\xff\xff\xff"
      "G@\x04\0\0\0\0\0\0N\x88"
      "e\x8c\x01"
      "b\x94"
      "C\x01x\x94J\x70\x11\x01\0\x86\x94u."s;
  const PickleDocument document(bytes, metadata_rules(), kSource);
  const PickleValue* list = document.root().find("a");
  ASSERT_NE(list, nullptr);
  ASSERT_EQ(list->items.size(), 5U);
  EXPECT_EQ(list->items[0]->integer, 1);
  EXPECT_EQ(list->items[1]->integer, -2);
  EXPECT_EQ(list->items[2]->number, 2.5);
  EXPECT_TRUE(list->items[3]->is_none());
  EXPECT_EQ(list->items[4]->integer, 1);
  const PickleValue* pair = document.root().find("b");
  ASSERT_NE(pair, nullptr);
  EXPECT_EQ(pair->items[0]->text, "x");
  EXPECT_EQ(pair->items[1]->integer, 70000);
  EXPECT_EQ(document.root().find("c"), nullptr);
}

TEST(Pickle, RefusesGlobalsThatRunCode) {
  EXPECT_THAT(refused("\x80\x02"
                      "cos\nsystem\nX\x02\0\0\0id\x85R."s),
              HasSubstr("'os.system' is not allowed"));
  EXPECT_THAT(refused("\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."s),
              HasSubstr("'posix.system'"));
  EXPECT_THAT(refused("\x80\x02"
                      "cbuiltins\neval\n."s),
              HasSubstr("'builtins.eval'"));
  EXPECT_THAT(refused("\x80\x02"
                      "cbuiltins\ngetattr\n."s),
              HasSubstr("'builtins.getattr'"));
  // By a dotted name out of a class that is known, and out of a module that begins like one.
  EXPECT_THAT(refused("\x80\x04\x8c\x05torch\x8c\x10Size.__globals__\x93."s),
              HasSubstr("not allowed"));
  EXPECT_THAT(refused("\x80\x02"
                      "cmegatron_evil.core\nrun\n."s,
                      common_rules()),
              HasSubstr("'megatron_evil.core.run'"));
  EXPECT_THAT(refused("\x80\x04K\x01\x8c\x01x\x93."s), HasSubstr("a global named by"));
}

TEST(Pickle, RefusesCallsAndStatesOfOddThings) {
  EXPECT_THAT(refused("\x80\x02"
                      "ctorch\nbfloat16\n)R."s),
              HasSubstr("'torch.bfloat16', which is no class"));
  EXPECT_THAT(refused("\x80\x02K\x01)R."s), HasSubstr("a call of the integer 1"));
  EXPECT_THAT(refused("\x80\x02"
                      "ctorch\nSize\nK\x01R."s),
              HasSubstr("expected a tuple"));
  EXPECT_THAT(refused("\x80\x02]}b."s), HasSubstr("state for a list"));
  EXPECT_THAT(refused("\x80\x02"
                      "ctorch\nSize\n}b."s),
              HasSubstr("state for 'torch.Size'"));
  EXPECT_THAT(refused("\x80\x02"
                      "ctorch\nSize\n)R}b}b."s),
              HasSubstr("second state"));
  EXPECT_THAT(refused("\x80\x02"
                      "ctorch\nSize\n)Rq\0h\0b."s),
              HasSubstr("as the state"));
  EXPECT_THAT(refused("\x80\x02K\x01Q."s), HasSubstr("persistent identification"));
  EXPECT_THAT(refused("\x80\x02N]a."s), HasSubstr("items for None"));
  EXPECT_THAT(refused("\x80\x02](K\x01u."s), HasSubstr("keys for a list"));
  EXPECT_THAT(refused("\x80\x02}(K\x01u."s), HasSubstr("a key without a value"));
  EXPECT_THAT(refused("\x80\x02"
                      "ctorch\nSize\n)}K\x01K\x02s\x92."s),
              HasSubstr("named arguments"));
}

TEST(Pickle, RefusesOpcodesThatAreNotKnown) {
  // INST, OBJ, extensions, protocol-0 texts and out-of-band buffers.
  for (const std::string opcode :
       {"i", "o", "\x82", "\x83", "\x84", "S", "V", "P", "I", "\x97", "\xff"}) {
    EXPECT_THAT(refused("\x80\x04" + opcode + "os\nsystem\n."), HasSubstr("opcode")) << opcode;
  }
  EXPECT_THAT(refused("\x80\x09."s), HasSubstr("protocol 9"));
  EXPECT_THAT(refused("\x80\x01N."s), HasSubstr("protocol 1"));
}

TEST(Pickle, RefusesWhatEndsTooEarlyOrTooLate) {
  EXPECT_THAT(refused(""), HasSubstr("no data"));
  EXPECT_THAT(refused("\x80\x04"s), HasSubstr("truncated"));
  EXPECT_THAT(refused("\x80\x04."s), HasSubstr("the stack is empty"));
  EXPECT_THAT(refused("\x80\x04NN."s), HasSubstr("more than the result"));
  EXPECT_THAT(refused("\x80\x04(N."s), HasSubstr("more than the result"));
  EXPECT_THAT(refused("\x80\x04t."s), HasSubstr("no mark"));
  EXPECT_THAT(refused("\x80\x04N(\x85."s), HasSubstr("the stack is empty"));
  EXPECT_THAT(refused("\x80\x04"
                      "cos\nsys"s),
              HasSubstr("line without an end"));
  EXPECT_THAT(refused("\x80\x04\x8c\x02\xc3(."s), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(refused("\x80\x04h\x07."s), HasSubstr("memo holds nothing under 7"));
}

TEST(Pickle, LengthsAndMemoKeysAllocateNothing) {
  EXPECT_THAT(refused("\x80\x04X" + word32(0xffffffff) + "."), HasSubstr("4294967295 bytes"));
  EXPECT_THAT(refused("\x80\x04\x8d" + test::length_word(UINT64_MAX) + "."), HasSubstr("follow"));
  EXPECT_THAT(refused("\x80\x04\x8e" + test::length_word(uint64_t{1} << 62) + "."),
              HasSubstr("follow"));
  EXPECT_THAT(refused("\x80\x04\x8b" + word32(0x7fffffff) + "."), HasSubstr("follow"));
  EXPECT_THAT(refused("\x80\x04\x95" + test::length_word(1000) + "N."),
              HasSubstr("a frame of 1000"));
  // A key of a memo is a number like any other.
  const PickleDocument document("\x80\x04Nr" + word32(0xffffffff) + "0j" + word32(0xffffffff) + ".",
                                metadata_rules(), kSource);
  EXPECT_TRUE(document.root().is_none());
}

TEST(Pickle, DepthIsBounded) {
  std::string tuples = "\x80\x04)";
  tuples.append(100'000, '\x85');
  EXPECT_THAT(refused(tuples + "."), HasSubstr("levels deep"));
  std::string lists = "\x80\x04" + std::string(100'000, ']') + std::string(99'999, 'a') + ".";
  EXPECT_THAT(refused(lists), HasSubstr("levels deep"));
  EXPECT_THAT(refused("\x80\x04" + std::string(100'000, '(') + "."), HasSubstr("marks"));
  // A list in itself is held and ended without following it.
  const PickleDocument document("\x80\x04]q\0h\0a."s, metadata_rules(), kSource);
  EXPECT_EQ(document.root().items.front(), &document.root());
}

TEST(Pickle, CountsAreBounded) {
  PickleRules rules = metadata_rules();
  rules.max_values = 1000;
  EXPECT_THAT(refused("\x80\x04" + std::string(2000, ']') + ".", rules), HasSubstr("1000 values"));
  rules = metadata_rules();
  rules.max_stack = 1000;
  EXPECT_THAT(refused("\x80\x04" + std::string(2000, 'N') + ".", rules),
              HasSubstr("1000 values on the stack"));
}

}  // namespace
}  // namespace halftone
