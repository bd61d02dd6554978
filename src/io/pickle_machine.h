#pragma once

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/pickle.h"

namespace halftone {

// Runs the opcodes of a pickle: a stack, marks on it and a memo. No opcode recurses, and none
// allocates by a number that the pickle gives.
class PickleMachine {
 public:
  // Makes its values in `values`; their texts point into `bytes`.
  PickleMachine(std::string_view bytes, const PickleRules& rules, const std::string& source,
                std::deque<PickleValue>& values);

  const PickleValue* run();

 private:
  using Kind = PickleValue::Kind;

  [[noreturn]] void fail(const std::string& text) const;
  std::string_view take(uint64_t bytes);
  std::string_view take_line();
  uint64_t take_unsigned(int bytes);
  int64_t take_signed(int bytes);

  PickleValue* make(Kind kind);
  void push(PickleValue* value);
  PickleValue* pop();
  PickleValue* top();
  std::vector<PickleValue*> pop_mark();
  // A value goes into a container.
  void put(PickleValue* container, PickleValue* value);

  // The groups of opcodes; false: not of this group.
  bool run_plain(uint8_t opcode);
  bool run_text(uint8_t opcode);
  bool run_container(uint8_t opcode);
  bool run_memo(uint8_t opcode);
  bool run_object(uint8_t opcode);

  void push_integer(int64_t value);
  void push_text(Kind kind, uint64_t bytes);
  void push_tuple(std::vector<PickleValue*> items);
  void append(PickleValue* list, const std::vector<PickleValue*>& items, Kind kind);
  void set_items(const std::vector<PickleValue*>& items);
  void push_global(std::string_view module, std::string_view name);
  void push_object(PickleValue* made_by, PickleValue* arguments);
  void build();
  void remember(uint64_t key);
  void recall(uint64_t key);

  std::string_view bytes_;
  const PickleRules& rules_;
  const std::string& source_;
  std::deque<PickleValue>& values_;
  size_t at_ = 0;      // behind what was read
  size_t opcode_ = 0;  // where the current opcode is
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, PickleValue*> memo_;
  std::array<PickleValue*, 256> small_{};  // integers that nearly all values are
  PickleValue* none_ = nullptr;
  PickleValue* empty_tuple_ = nullptr;
};

}  // namespace halftone
