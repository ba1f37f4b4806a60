// ptx_parse.cc decodes the PTX of one kernel: statements, registers, labels, operands.
#include <map>
#include <stdexcept>

#include "ptx.h"

namespace ptx {

namespace {

std::string trimmed(const std::string& s) {
  size_t a = s.find_first_not_of(" \t\r\n"), b = s.find_last_not_of(" \t\r\n");
  return a == std::string::npos ? "" : s.substr(a, b - a + 1);
}

// split cuts at commas that are not inside braces or brackets.
std::vector<std::string> split(const std::string& s) {
  std::vector<std::string> parts;
  int depth = 0;
  size_t from = 0;
  for (size_t i = 0; i <= s.size(); i++) {
    char c = i < s.size() ? s[i] : ',';
    if (c == '{' || c == '[') depth++;
    if (c == '}' || c == ']') depth--;
    if (c == ',' && (depth == 0 || i == s.size())) {
      std::string p = trimmed(s.substr(from, i - from));
      if (!p.empty()) parts.push_back(p);
      from = i + 1;
    }
  }
  return parts;
}

struct Parser {
  Kernel k;
  std::map<std::string, int> regs, labels;
  std::vector<std::pair<int, std::string>> branches; // op, label
  int line;

  [[noreturn]] void fail(const std::string& what) { throw std::runtime_error(k.name + " line " + std::to_string(line) + ": " + what); }

  int fresh() {
    if (k.registers == 65535) fail("too many registers");
    return k.registers++;
  }

  int immediate(uint64_t value) {
    std::string key = "#" + std::to_string(value);
    auto [i, added] = regs.try_emplace(key, 0);
    if (added) {
      i->second = fresh();
      k.immediates.push_back({uint16_t(i->second), value});
    }
    return i->second;
  }

  int special(const std::string& name) {
    static const char* names[] = {"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z", "%laneid",
                                  "%nctaid.x", "%nctaid.y", "%nctaid.z"};
    for (int i = 0; i < 13; i++)
      if (name == names[i]) {
        if (k.special[i] < 0) k.special[i] = fresh();
        return k.special[i];
      }
    return -1;
  }

  // value is the register of a word: a register, a number or a symbol.
  int value(const std::string& word) {
    if (word == "_") return fresh();
    if (word[0] == '%') {
      if (int s = special(word); s >= 0) return s;
      auto [i, added] = regs.try_emplace(word, 0);
      if (added) i->second = fresh();
      return i->second;
    }
    if (word.compare(0, 2, "0f") == 0 || word.compare(0, 2, "0F") == 0) return immediate(std::stoull(word.substr(2), nullptr, 16));
    if (isdigit(word[0]) || word[0] == '-') return immediate(word[0] == '-' ? uint64_t(std::stoll(word, nullptr, 0)) : std::stoull(word, nullptr, 0));
    if (word.find("_param_") != std::string::npos) {
      if (k.parameter < 0) k.parameter = fresh();
      return k.parameter;
    }
    if (word.compare(0, 14, "__local_depot1") == 0 || word.compare(0, 13, "__local_depot") == 0) {
      if (k.local_base < 0) k.local_base = fresh();
      return k.local_base;
    }
    if (word.size() > 6 && word.compare(word.size() - 6, 6, "_bytes") == 0) return immediate(0); // dynamic shared memory begins at 0
    fail("unknown operand " + word);
  }

  void operand(Op& op, int at, std::string text) {
    if (at >= 8) fail("too many operands");
    auto registers = [&](const std::string& list) {
      for (const std::string& part : split(list.substr(1, list.size() - 2))) op.list.push_back(uint16_t(value(part)));
    };
    if (text[0] == '[') {
      auto parts = split(text.substr(1, text.size() - 2));
      text = parts[0];
      if (parts.size() > 1) registers(parts[1]); // a tensor's coordinates
      size_t plus = text.find('+');
      if (plus != std::string::npos) {
        op.offset = std::stoll(text.substr(plus + 1), nullptr, 0);
        text = text.substr(0, plus);
      }
    } else if (text[0] == '{') {
      auto parts = split(text.substr(1, text.size() - 2));
      if (parts.size() > 4) return registers(text);
      op.count[at] = uint8_t(parts.size());
      for (size_t i = 0; i < parts.size(); i++) op.arg[at][i] = uint16_t(value(parts[i]));
      return;
    } else if (size_t bar = text.find('|'); bar != std::string::npos) {
      text = text.substr(0, bar); // the second result of shfl is not used
    }
    op.count[at] = 1;
    op.arg[at][0] = uint16_t(value(trimmed(text)));
  }

  void directive(const std::string& s) {
    if (s.compare(0, 6, ".local") == 0) k.local_bytes = std::stoul(s.substr(s.find('[') + 1));
  }

  void instruction(std::string s) {
    Op op;
    op.line = line;
    if (s[0] == '@') {
      size_t space = s.find_first_of(" \t");
      std::string guard = s.substr(1, space - 1);
      if (guard[0] == '!') {
        op.guard_is = 0;
        guard = guard.substr(1);
      }
      op.guard = value(guard);
      s = trimmed(s.substr(space));
    }
    size_t end = s.find_first_of(" \t\n");
    std::string name = s.substr(0, end), rest = end == std::string::npos ? "" : s.substr(end);
    op.run = handler(name, op);
    if (!op.run) fail("the interpreter does not know the instruction " + name);
    op.name = (new std::string(name))->c_str();
    if (op.kind == kBranch) {
      branches.push_back({int(k.ops.size()), trimmed(rest)});
    } else {
      int at = 0;
      for (auto& part : split(rest)) operand(op, at++, part);
    }
    k.ops.push_back(op);
  }

  void statement(std::string s) {
    s = trimmed(s);
    if (s.empty()) return;
    if (s[0] == '.') directive(s);
    else instruction(s);
  }
};

} // namespace

Kernel parse(const std::string& name, const std::string& text, size_t body, int line) {
  Parser p;
  p.k.name = name;
  p.line = line;
  std::fill(std::begin(p.k.special), std::end(p.k.special), -1);

  size_t open = text.find('{', body);
  std::string head = text.substr(body, open - body);
  // One parameter, an array of bytes: ".param .align 8 .b8 name_param_0[208]".
  size_t bytes = head.find('[');
  if (head.find(".param") != head.rfind(".param") || bytes == std::string::npos) p.fail("a kernel has one struct as its parameter");
  p.k.parameter_bytes = std::stoul(head.substr(bytes + 1));
  if (size_t at = head.find(".maxntid"); at != std::string::npos) p.k.threads = std::stoi(head.substr(at + 8));
  for (char c : head) p.line += c == '\n';

  int depth = 1;
  std::string now;
  for (size_t i = open + 1; depth > 0 && i < text.size(); i++) {
    char c = text[i];
    if (c == '/' && text[i + 1] == '/') {
      while (i < text.size() && text[i] != '\n') i++;
      c = '\n';
    }
    bool empty = trimmed(now).empty();
    if (c == '\n') {
      p.line++;
      if (trimmed(now).compare(0, 4, ".loc") == 0) now.clear(); // ends with the line
      else now += ' ';
    } else if (c == '{' && empty) {
      depth++;
      now.clear();
    } else if (c == '}' && empty) {
      depth--;
      now.clear();
    } else if (c == ';') {
      p.statement(now);
      now.clear();
    } else if (c == ':' && trimmed(now)[0] == '$') {
      p.labels[trimmed(now)] = int(p.k.ops.size());
      now.clear();
    } else {
      now += c;
    }
  }
  for (auto& [op, label] : p.branches) {
    auto at = p.labels.find(label);
    if (at == p.labels.end()) p.fail("no label " + label);
    p.k.ops[op].target = at->second;
  }
  return std::move(p.k);
}

} // namespace ptx
