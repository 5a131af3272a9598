//! Normalising of emails, phones, names and addresses. Pure: values in, values out.
