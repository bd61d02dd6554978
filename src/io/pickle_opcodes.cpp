#include <bit>

#include "core/log.h"
#include "io/pickle_machine.h"

namespace halftone {
namespace {

// Only those of protocols 2 to 5; what runs code by itself (INST, OBJ, EXT1 ...) is not among them.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kEmptyDict = '}',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kEmptyList = ']',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
};

}  // namespace

const PickleValue* PickleMachine::run() {
  if (bytes_.empty()) fail("no data");
  while (true) {
    opcode_ = at_;
    const auto opcode = static_cast<uint8_t>(take(1).front());
    if (opcode == kStop) break;
    if (run_plain(opcode) || run_text(opcode) || run_container(opcode) || run_memo(opcode) ||
        run_object(opcode)) {
      continue;
    }
    fail(concat("the opcode ", int{opcode}, " is not supported; expected one of protocols 2 to 5"));
  }
  const PickleValue* result = pop();
  if (!stack_.empty() || !marks_.empty()) fail("the stack holds more than the result");
  return result;
}

bool PickleMachine::run_plain(uint8_t opcode) {
  switch (opcode) {
    case kProto: {
      const uint64_t protocol = take_unsigned(1);
      if (protocol < 2 || protocol > 5) {
        fail(concat("protocol ", protocol, "; expected 2 to 5"));
      }
      return true;
    }
    case kFrame:
      if (const uint64_t bytes = take_unsigned(8); bytes > bytes_.size() - at_) {
        fail(concat("a frame of ", bytes, " bytes, but only ", bytes_.size() - at_,
                    " follow (a truncated copy?)"));
      }
      return true;
    case kNone:
      push(none_);
      return true;
    case kNewTrue:
    case kNewFalse:
      push(make(Kind::kBool));
      stack_.back()->integer = opcode == kNewTrue ? 1 : 0;
      return true;
    case kBinInt:
      push_integer(take_signed(4));
      return true;
    case kBinInt1:
      push_integer(static_cast<int64_t>(take_unsigned(1)));
      return true;
    case kBinInt2:
      push_integer(static_cast<int64_t>(take_unsigned(2)));
      return true;
    case kLong1:
    case kLong4: {
      const uint64_t bytes = take_unsigned(opcode == kLong1 ? 1 : 4);
      if (bytes <= 8) {
        push_integer(take_signed(static_cast<int>(bytes)));
      } else {
        // Seeds and hashes of other entries: kept as they are, no number to any reader.
        push_text(Kind::kBytes, bytes);
      }
      return true;
    }
    case kBinFloat: {
      uint64_t bits = 0;
      for (const char byte : take(8)) bits = bits << 8 | static_cast<uint8_t>(byte);
      push(make(Kind::kFloat));
      stack_.back()->number = std::bit_cast<double>(bits);
      return true;
    }
    default:
      return false;
  }
}

bool PickleMachine::run_text(uint8_t opcode) {
  switch (opcode) {
    case kShortBinUnicode:
      push_text(Kind::kText, take_unsigned(1));
      return true;
    case kBinUnicode:
      push_text(Kind::kText, take_unsigned(4));
      return true;
    case kBinUnicode8:
      push_text(Kind::kText, take_unsigned(8));
      return true;
    case kShortBinBytes:
      push_text(Kind::kBytes, take_unsigned(1));
      return true;
    case kBinBytes:
      push_text(Kind::kBytes, take_unsigned(4));
      return true;
    case kBinBytes8:
    case kByteArray8:
      push_text(Kind::kBytes, take_unsigned(8));
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_container(uint8_t opcode) {
  switch (opcode) {
    case kMark:
      if (marks_.size() >= rules_.max_marks) fail(concat("more than ", rules_.max_marks, " marks"));
      marks_.push_back(stack_.size());
      return true;
    case kPop:
      pop();
      return true;
    case kPopMark:
      pop_mark();
      return true;
    case kDup:
      push(top());
      return true;
    case kEmptyTuple:
      push(empty_tuple_);
      return true;
    case kTuple1:
    case kTuple2:
    case kTuple3: {
      std::vector<PickleValue*> items(opcode - kTuple1 + size_t{1});
      for (size_t i = items.size(); i-- > 0;) items[i] = pop();
      push_tuple(std::move(items));
      return true;
    }
    case kTuple:
      push_tuple(pop_mark());
      return true;
    case kEmptyList:
      push(make(Kind::kList));
      return true;
    case kEmptyDict:
      push(make(Kind::kDict));
      return true;
    case kEmptySet:
      push(make(Kind::kSet));
      return true;
    case kFrozenSet: {
      const std::vector<PickleValue*> items = pop_mark();
      push(make(Kind::kSet));
      append(stack_.back(), items, Kind::kSet);
      return true;
    }
    case kAppend: {
      PickleValue* item = pop();
      append(top(), {item}, Kind::kList);
      return true;
    }
    case kAppends:
    case kAddItems: {
      const std::vector<PickleValue*> items = pop_mark();
      append(top(), items, opcode == kAppends ? Kind::kList : Kind::kSet);
      return true;
    }
    case kSetItem: {
      PickleValue* value = pop();
      PickleValue* key = pop();
      set_items({key, value});
      return true;
    }
    case kSetItems:
      set_items(pop_mark());
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_memo(uint8_t opcode) {
  switch (opcode) {
    case kBinPut:
      remember(take_unsigned(1));
      return true;
    case kLongBinPut:
      remember(take_unsigned(4));
      return true;
    case kMemoize:
      remember(memo_.size());
      return true;
    case kBinGet:
      recall(take_unsigned(1));
      return true;
    case kLongBinGet:
      recall(take_unsigned(4));
      return true;
    default:
      return false;
  }
}

bool PickleMachine::run_object(uint8_t opcode) {
  switch (opcode) {
    case kGlobal: {
      const std::string_view module = take_line();
      push_global(module, take_line());
      return true;
    }
    case kStackGlobal: {
      const PickleValue* name = pop();
      const PickleValue* module = pop();
      if (!name->is(Kind::kText) || !module->is(Kind::kText)) {
        fail(concat("a global named by ", module->described(), " and ", name->described()));
      }
      push_global(module->text, name->text);
      return true;
    }
    case kReduce:
    case kNewObj: {
      PickleValue* arguments = pop();
      PickleValue* made_by = pop();
      push_object(made_by, arguments);
      return true;
    }
    case kNewObjEx: {
      const PickleValue* named = pop();
      PickleValue* arguments = pop();
      PickleValue* made_by = pop();
      if (!named->is(Kind::kDict) || !named->items.empty()) {
        fail("an object with named arguments; expected none");
      }
      push_object(made_by, arguments);
      return true;
    }
    case kBuild:
      build();
      return true;
    case kBinPersId: {
      if (!rules_.persistent) fail("a persistent identification, which is not allowed here");
      PickleValue* arguments = pop();
      PickleValue* value = make(Kind::kPersistent);
      put(value, arguments);
      value->arguments = arguments;
      push(value);
      return true;
    }
    default:
      return false;
  }
}

}  // namespace halftone
