//! Custom bots of Feishu and Lark.
